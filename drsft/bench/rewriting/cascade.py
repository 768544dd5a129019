"""Compares the cascade with two other ways to do the same work. The time runs from the start of a new process
to the last record.

- `ray.data.llm` twice: every problem is sampled n times, then a second processor guides the failures.
- the same engine with a barrier: one engine for both passes; the second begins when the first has ended.

All three use the same engine, prompts and seeds, and draw at most four samples per phase and problem. The
verdicts are fixed in advance (drsft/bench/rewriting/acceptance.py) and equal for all three. drsft runs its
verifier to get them; the two others look them up, which takes no time. Only drsft draws samples in waves of
`wave_size`, and it stops at the first accepted sample.

The model is one of drsft/bench/models.py: verdicts do not depend on what it writes.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drsft.bench.models import EMBEDDED, ModelUse, bench_model
from drsft.bench.rewriting.acceptance import is_right
from drsft.bench.rewriting.graded import bench_problems
from drsft.bench.subprocesses import last_json_line, run_side
from drsft.config import RunConfig, SamplingPhase
from drsft.policy.prompts import target_prompter
from drsft.records import Phase, Problem, stable_seed

__all__ = ["CascadeRound", "bench_cascade", "print_bench", "print_round"]

NUM_SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side's tokens and times: `wall_s` includes the starts of its processes and engines.

    `seconds` is the time from the first request to the last record.
    """

    wall_s: float
    num_tokens: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeRound:
    ours: Side
    barrier: Side
    ray_llm: Side
    share_alone: float  # of the problems, solved without guide


def bench_cascade(
    model: str = EMBEDDED, *, num_rounds: int = 5, num_problems: int = 512, wave_size: int = 1
) -> Iterator[CascadeRound]:
    """Yields the times and tokens of all sides for each round, in which they run one after the other."""
    for _ in range(num_rounds):
        with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
            use = bench_model(model, Path(folder))
            config = _config(use, num_problems, wave_size)
            path, work = Path(folder) / "config.json", Path(folder) / "work.json"
            path.write_text(config.model_copy(update={"storage": f"{folder}/run"}).model_dump_json())
            work.write_text(json.dumps(_work(config)))
            ours, counts = _timed("drsft.bench.rewriting.graded", path, use)
            yield CascadeRound(
                ours=ours,
                barrier=_timed("drsft.bench.rewriting.barrier", work, use)[0],
                ray_llm=_timed("drsft.bench.rewriting.peer_ray_llm", work, use)[0],
                share_alone=counts["num_alone"] / num_problems,
            )


def print_round(one: CascadeRound, console: Console) -> None:
    ours, barrier = one.ours, one.barrier
    console.print(
        f"drsft {ours.wall_s:.1f} s ({_without_starts(ours):.1f} s without starts), with a barrier "
        f"{barrier.wall_s:.1f} s ({_without_starts(barrier):.1f} s), ray.data.llm {one.ray_llm.wall_s:.1f} s",
        highlight=False,
    )


def print_bench(rounds: list[CascadeRound], console: Console) -> None:
    alone = statistics.mean(one.share_alone for one in rounds)
    title = f"{len(rounds)} rounds, {alone:.0%} solved alone"
    table = Table("", "median", "min", "max", title=title)
    for name, value in _ROWS.items():
        values = [value(one) for one in rounds]
        table.add_row(name, *(f"{f(values):,.2f}" for f in (statistics.median, min, max)))
    console.print(table)


def _without_starts(side: Side) -> float:
    assert side.seconds is not None
    return side.seconds


_ROWS: dict[str, Callable[[CascadeRound], float]] = {
    "drsft, all starts, s": lambda one: one.ours.wall_s,
    "ray.data.llm twice, all starts, s": lambda one: one.ray_llm.wall_s,
    "ratio": lambda one: one.ours.wall_s / one.ray_llm.wall_s,
    "drsft, without starts, s": lambda one: _without_starts(one.ours),
    "engine with a barrier, without starts, s": lambda one: _without_starts(one.barrier),
    "ratio ": lambda one: _without_starts(one.ours) / _without_starts(one.barrier),
    "ratio of sampled tokens": lambda one: one.ours.num_tokens / one.barrier.num_tokens,
}


def _config(use: ModelUse, num_problems: int, wave_size: int) -> RunConfig:
    settings = {"num_samples": NUM_SAMPLES, "wave_size": wave_size, "max_tokens": use.max_tokens}
    tree: dict[str, Any] = {
        "name": "bench",
        "problems": {"path": "embedded:train", "limit": num_problems, "shard_size": 64},
        "target": {
            **use.target,
            "max_model_len": 512,
            "prompts": {"plain": "{question}", "guided": "{question}\n{demonstration}"},
            "engine": {"max_num_seqs": 128, "kv_cache_mib": 1024, "enforce_eager": True},
        },
        "rewrite": {"self_align": settings, "guided": settings, "grounding": None},
        "resources": {
            "rewrite_actors": 1,
            "shards_in_flight_per_actor": 8,
            "cpus_per_actor": use.num_threads,
        },
    }
    return RunConfig.model_validate(tree)


def _work(config: RunConfig) -> dict[str, Any]:
    """Returns the requests that the peers have to sample, with the verdicts on them."""
    prompter = target_prompter(config.target)
    phases: dict[Phase, SamplingPhase] = {
        Phase.SELF_ALIGN: config.rewrite.self_align,
        Phase.GUIDED: config.rewrite.guided,
    }
    prompts = {Phase.SELF_ALIGN: prompter.plain, Phase.GUIDED: prompter.guided}
    return {
        "target": config.target.model_dump(mode="json"),
        "end_token_ids": prompter.turn.end_token_ids,
        "problems": [
            {
                phase.value: {
                    "prompt_ids": prompts[phase](problem),
                    "sampling": _sampling(config, problem, phase, settings),
                    "right": [is_right(problem.problem_id, phase, i) for i in range(settings.num_samples)],
                }
                for phase, settings in phases.items()
            }
            for problem in bench_problems(config)
        ],
    }


def _sampling(config: RunConfig, problem: Problem, phase: Phase, settings: SamplingPhase) -> dict[str, Any]:
    return {
        "num_samples": settings.num_samples,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "seed": stable_seed(config.seed, problem.problem_id, phase, "0"),
    }


def _timed(module: str, work: Path, use: ModelUse) -> tuple[Side, dict[str, Any]]:
    started_s = time.monotonic()
    result = last_json_line(run_side([sys.executable, "-m", module, str(work)], num_threads=use.num_threads))
    wall_s = time.monotonic() - started_s
    return Side(wall_s=wall_s, num_tokens=result["num_tokens"], seconds=result.get("seconds")), result
