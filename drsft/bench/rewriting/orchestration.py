"""Measures the rewriting job without a model: all runs as in the job, but a function makes the samples.

The problems are planned from a file, two actors on a local Ray cluster tokenise, run the cascade, judge and
commit, and this process drives them. Each problem draws four samples alone and, if none is right (three in
five), four more with its guide. Rates are from the first shard's start to the last commit.

It is compared with distilabel: a pipeline of one task that generates four texts a row at once, without
verdicts. Its start-up time, which a run of a hundred rows measures, is left out too.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from drsft.bench.memory import MemoryCurve, watched_memory
from drsft.bench.peers import run_peer
from drsft.config import RunConfig, Target
from drsft.intake.planning import Planning, plan_problems
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter, target_prompter
from drsft.records import Completion
from drsft.run.layout import PROBLEMS
from drsft.run.run import Run
from drsft.run.summary import ShardCounts, ShardSummary, Work, span_s
from drsft.stages.actors import quiet_ray_data
from drsft.stages.cluster import connected, quiet_stderr
from drsft.stages.progress_board import start_board
from drsft.stages.rewriting import run_rewriting
from drsft.storage import Store, open_store

__all__ = ["OrchestrationBench", "answering_policy", "bench_orchestration", "bench_peer", "print_bench"]

RIGHT_SHARE = 0.12  # of samples: 1 - 0.88^4 is two in five problems solved alone
NUM_ACTORS = 2
PEER_SCRIPT = Path(__file__).with_name("peer_distilabel.py")
PEER_BATCH = 500  # 50, distilabel's default, is half as fast
PEER_START_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationBench:
    num_problems: int
    planning_s: float
    rewriting_s: float
    num_samples: int
    driver: MemoryCurve
    actors: MemoryCurve  # the larger one's peak so far, at each commit
    cpu_us: tuple[float, ...]  # of the actors a problem, in each tenth of the shards

    @property
    def problems_per_s(self) -> float:
        return self.num_problems / self.rewriting_s


def bench_orchestration(num_problems: int, *, shard_size: int = 512) -> OrchestrationBench:
    """Rewrites `num_problems` made-up problems on a new Ray cluster of this machine and measures it."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder, watched_memory() as driver:
        path = Path(folder) / "problems.jsonl"
        _write_problems(path, num_problems)
        config = _config(path, shard_size)
        store = open_store(f"{folder}/run")
        prompter = target_prompter(config.target)
        started_s = time.perf_counter()
        plan = plan_problems(
            config.problems,
            store,
            PROBLEMS,
            prompter=prompter,
            max_model_len=config.target.max_model_len,
        )
        planning_s = time.perf_counter() - started_s
        with quiet_stderr(console), connected():
            quiet_ray_data()
            run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=answering_policy)
        return _read(store, num_problems, planning_s, driver)


def bench_peer(num_problems: int, python: Path) -> float:
    """Returns distilabel's rows per second without its start; `python` must have distilabel installed."""
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        start, whole = (
            run_peer(python, PEER_SCRIPT, [str(number), str(PEER_BATCH)], folder=Path(folder))["seconds"]
            for number in (PEER_START_ROWS, PEER_START_ROWS + num_problems)
        )
    return num_problems / float(whole - start)


def answering_policy(target: Target, prompter: Prompter) -> FakePolicy:
    """Returns a policy without a model; the seed decides whether its answer is right (a share of RIGHT_SHARE)
    or wrong.
    """
    number_of = {prompter.tokenizer.convert_tokens_to_ids(str(n)): n for n in range(10, 100)}

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        number = next(number_of[token] for token in prompt_ids if token in number_of)
        draw = (seed * 0x9E3779B1) % 2**32 / 2**32  # Fibonacci hashing: cheap and even
        total = number if draw < RIGHT_SHARE else number + 1 + int(1000 * draw)
        return text_completion(f"{number}+46-46={total};\\boxed{{{total}}}")

    return FakePolicy(answer)


def print_bench(
    benches: Sequence[OrchestrationBench], peer_per_s: Sequence[float], console: Console | None = None
) -> None:
    """Prints the rates of drsft and distilabel, and drsft's memory and processor time in the last round."""
    console = console or Console()
    last = benches[-1]
    table = Table("problems a second", "median", "min", "max")
    rows = {
        "drsft, planning": [bench.num_problems / bench.planning_s for bench in benches],
        "drsft, rewriting": [bench.problems_per_s for bench in benches],
        "distilabel": list(peer_per_s),
    }
    for name, values in rows.items():
        if values:
            table.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
    table.title = f"{last.num_problems:,} problems, {last.num_samples:,} samples, {len(benches)} round(s)"
    console.print(table)
    cpu = " ".join(f"{cpu_us:,.0f}" for cpu_us in last.cpu_us)
    console.print("the last round, in tenths of its time (driver) or of its shards (actors):")
    console.print(f"  driver, MiB: {last.driver}", highlight=False)
    console.print(f"  larger actor, MiB: {last.actors}", highlight=False)
    console.print(f"  processor time of the actors a problem, µs: {cpu}", highlight=False)


def _config(path: Path, shard_size: int) -> RunConfig:
    settings = {"num_samples": 4, "wave_size": 4, "max_tokens": 64}
    return RunConfig.model_validate(
        {
            "name": "bench",
            "problems": {"path": str(path), "shard_size": shard_size},
            "target": {
                "model": "embedded",
                "max_model_len": 512,
                "prompts": {"plain": "{question}", "guided": "{question}\n{demonstration}"},
            },
            "rewrite": {"self_align": settings, "guided": settings, "grounding": None},
            "resources": {"rewrite_actors": NUM_ACTORS, "cpus_per_actor": 1, "shards_in_flight_per_actor": 2},
        }
    )


def _write_problems(path: Path, num_problems: int) -> None:
    with path.open("w") as file:
        for number in range(num_problems):
            total = 10 + number % 90
            row = {
                "problem": f"Ann has {total} cups, gets 46, gives 46. How many does she have? ({number})",
                "solution": f"Adding 46 gives {total + 46}. Taking 46 away leaves {total}. "
                f"Therefore the result is \\boxed{{{total}}}.",
                "answer": str(total),
            }
            file.write(json.dumps(row) + "\n")


def _read(store: Store, num_problems: int, planning_s: float, driver: MemoryCurve) -> OrchestrationBench:
    summaries = sorted(Run(store).summaries(), key=lambda summary: _work(summary).ended_at)
    return OrchestrationBench(
        num_problems=num_problems,
        planning_s=planning_s,
        rewriting_s=span_s(summary.work for summary in summaries),
        num_samples=ShardCounts.total(summary.counts for summary in summaries).samples.total(),
        driver=driver,
        actors=MemoryCurve([summary.peak_rss_mib or 0.0 for summary in summaries]),
        cpu_us=tuple(_cpu_us(summaries)),
    )


def _work(summary: ShardSummary) -> Work:
    assert summary.work is not None
    return summary.work


def _cpu_us(summaries: Sequence[ShardSummary]) -> Iterator[float]:
    """Yields the processor time per problem in each tenth of the commits, read from each commit."""
    clocks: dict[str | None, float] = {}
    num_problems = spent_s = 0.0
    for number, summary in enumerate(summaries, start=1):
        worker, now_s = _work(summary).worker, summary.cpu_s or 0.0
        if worker in clocks:
            spent_s += now_s - clocks[worker]
            num_problems += summary.counts.kept.total()
        clocks[worker] = now_s
        if number * 10 // len(summaries) > (number - 1) * 10 // len(summaries) and num_problems:
            yield 1e6 * spent_s / num_problems
            num_problems = spent_s = 0.0
