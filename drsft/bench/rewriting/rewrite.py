"""Compares the whole rewriting job (Ray Data, verdicts, commits) with vllm.LLM.generate alone.

Both get the same prompts, seeds and number of samples for each prompt. In each round they run one after the
other, each in a process of its own; the times do not include the starts of the engines. With the small
embedded model drsft's own work per token is noticeable; the model with random weights is large enough for the
engine to be the bottleneck on a CPU.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drsft.bench.models import ModelUse, bench_model
from drsft.bench.subprocesses import last_json_line, run_side
from drsft.config import RunConfig
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import target_prompter
from drsft.records import Phase, stable_seed
from drsft.run.run import run_of
from drsft.run.summary import ShardCounts, span_s

__all__ = ["RewriteRound", "bench_rewrite", "print_bench", "print_round"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteRound:
    """Output tokens per second in one round: `ours` of drsft's job, `raw` of vllm.LLM.generate."""

    ours: float
    raw: float

    @property
    def ratio(self) -> float:
        return self.ours / self.raw


def bench_rewrite(model: str, *, num_rounds: int = 5, num_problems: int = 512) -> Iterator[RewriteRound]:
    """Yields the tokens per second of both sides for each round, in which one runs after the other."""
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        use = bench_model(model, Path(folder))
        config = _config(use, num_problems)
        for number in range(num_rounds):
            ours = _ours(config.model_copy(update={"storage": f"{folder}/{number}"}), use.num_threads)
            yield RewriteRound(ours=ours, raw=_raw(config, use.num_threads, Path(folder)))


def print_round(one: RewriteRound, console: Console) -> None:
    console.print(
        f"drsft {one.ours:,.0f} tokens/s, vllm.LLM.generate {one.raw:,.0f}; ratio {one.ratio:.3f}",
        highlight=False,
    )


def print_bench(model: str, rounds: Sequence[RewriteRound], console: Console) -> None:
    table = Table("output tokens/s", "median", "min", "max", title=f"{model} model, {len(rounds)} rounds")
    ours, raw, ratios = zip(*((one.ours, one.raw, one.ratio) for one in rounds), strict=True)
    for name, values in (("drsft, whole job", ours), ("vllm.LLM.generate", raw)):
        table.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
    table.add_row("ratio in a round", *(f"{f(ratios):.3f}" for f in (statistics.median, min, max)))
    console.print(table)


def _config(use: ModelUse, num_problems: int) -> RunConfig:
    prompts = {"plain": "{question}", "guided": "{question}\n{demonstration}"}
    settings = {"num_samples": 4, "wave_size": 4, "max_tokens": use.max_tokens}
    tree: dict[str, Any] = {
        "name": "bench",
        "problems": {"path": "embedded:train", "limit": num_problems, "shard_size": 64},
        "target": {
            **use.target,
            "max_model_len": 512,
            "prompts": prompts,
            "engine": {"max_num_seqs": 128, "kv_cache_mib": 1024, "enforce_eager": True},
        },
        # Raw vLLM finishes every sample.
        "rewrite": {
            "self_align": settings,
            "guided": {**settings, "num_samples": 0},
            "stop_beaten": False,
        },
        # Ray gives an actor as many OpenMP threads as it has CPUs.
        "resources": {
            "rewrite_actors": 1,
            "shards_in_flight_per_actor": 8,
            "cpus_per_actor": use.num_threads,
        },
    }
    return RunConfig.model_validate(tree)


def _ours(config: RunConfig, threads: int) -> float:
    """Returns tokens per second, from the first shard's start to the last commit."""
    path = Path(f"{config.storage}.json")
    path.write_text(config.model_dump_json())
    run_side([sys.executable, "-m", "drsft.cli", "rewrite", str(path)], num_threads=threads)
    summaries = run_of(config).summaries()
    counts = ShardCounts.total(summary.counts for summary in summaries)
    return counts.tokens.total() / span_s(summary.work for summary in summaries)


def _raw(config: RunConfig, threads: int, folder: Path) -> float:
    prompter = target_prompter(config.target)
    problems = list(read_problems(config.problems, Intake()))
    settings = config.rewrite.self_align
    requests = [
        {
            "num_samples": settings.num_samples,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "seed": stable_seed(config.seed, problem.problem_id, Phase.SELF_ALIGN, "0"),
        }
        for problem in problems
    ]
    work = {
        "target": config.target.model_dump(mode="json"),
        "end_token_ids": prompter.turn.end_token_ids,
        "prompts": [prompter.plain(problem) for problem in problems],
        "requests": requests,
    }
    path = folder / "raw.json"
    path.write_text(json.dumps(work))
    command = [sys.executable, "-m", "drsft.bench.rewriting.peer_vllm", str(path)]
    result = last_json_line(run_side(command, num_threads=threads))
    return float(result["num_tokens"] / result["seconds"])
