"""Rewriting against raw vLLM: the whole job with Ray Data, verdicts and commits, and vllm.LLM.generate.

Both get the same prompts, samples a request and seeds, in processes of their own, in turn; engine starts are
left out on both sides. Two models: the embedded one, where our own work per token shows, and one with random
weights that is large enough for the engine to be the bottleneck on a CPU.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drsft.config import RunConfig
from drsft.errors import StageError
from drsft.policy.prompts import load_prompter, model_location
from drsft.problems import Intake, read_problems
from drsft.records import stable_seed
from drsft.verify.answers import parse_reference

__all__ = ["RewriteBench", "bench_rewrite", "print_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteBench:
    """Output tokens per second of each round, ours and raw, for one model."""

    model: str
    ours: tuple[float, ...]
    raw: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(our / raw for our, raw in zip(self.ours, self.raw, strict=True))


def bench_rewrite(
    *, num_rounds: int = 5, num_problems: int = 512, threads: int = 2
) -> Iterator[RewriteBench]:
    """One result for each model; every round runs ours and raw in turn."""
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        random_model = Path(folder) / "random-28m"
        _make_random_model(random_model)
        for name, model, num_threads, max_tokens in (
            ("random, hidden 512, 8 layers", str(random_model), threads, 48),
            ("embedded", "embedded", 1, 128),
        ):
            config = _config(model, max_tokens, num_problems, num_threads)
            ours, raw = [], []
            for number in range(num_rounds):
                storage = str(Path(folder) / f"{Path(model).name}-{number}")
                ours.append(_ours(config.model_copy(update={"storage": storage}), num_threads))
                raw.append(_raw(config, num_threads, Path(folder)))
            yield RewriteBench(model=name, ours=tuple(ours), raw=tuple(raw))


def print_bench(bench: RewriteBench, console: Console | None = None) -> None:
    table = Table("output tokens/s", "median", "min", "max", title=f"{bench.model}: {len(bench.ours)} rounds")
    for name, values in (("drsft, whole job", bench.ours), ("vllm.LLM.generate", bench.raw)):
        table.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
    table.add_row("ratio in a round", *(f"{f(bench.ratios):.2f}" for f in (statistics.median, min, max)))
    (console or Console()).print(table)


def _config(model: str, max_tokens: int, num_problems: int, threads: int) -> RunConfig:
    prompts = {"plain": "{question}", "guided": "{question}\n{demonstration}"}
    stage = {"num_samples": 4, "wave_size": 4, "max_tokens": max_tokens}
    tree: dict[str, Any] = {
        "name": "bench",
        "problems": {"path": "embedded:train", "limit": num_problems, "shard_size": 64},
        "target": {
            "model": model,
            "dtype": "float32",
            "max_model_len": 512,
            "prompts": prompts,
            "engine": {"max_num_seqs": 128, "kv_cache_mib": 512, "enforce_eager": True},
        },
        "rewrite": {"self_align": stage, "guided": {**stage, "num_samples": 0}},
        # Ray gives an actor as many OpenMP threads as it has CPUs.
        "resources": {"shards_in_flight_per_actor": 8, "cpus_per_actor": threads},
    }
    return RunConfig.model_validate(tree)


def _ours(config: RunConfig, threads: int) -> float:
    """Tokens over the time from the first shard's start to the last commit."""
    path = Path(f"{config.storage}.json")
    path.write_text(config.model_dump_json())
    _run([sys.executable, "-m", "drsft.cli", "rewrite", str(path)], threads)
    commits = Path(config.storage).glob("*/rewrite/commits/*.json")
    summaries = [json.loads(commit.read_text())["summary"] for commit in commits]
    num_tokens = sum(sum(summary["tokens"].values()) for summary in summaries)
    started_at = min(summary["started_at"] for summary in summaries)
    return float(num_tokens / (max(summary["ended_at"] for summary in summaries) - started_at))


def _raw(config: RunConfig, threads: int, folder: Path) -> float:
    prompter = load_prompter(config.target.model, config.target.prompts)
    problems = list(read_problems(config.problems, Intake(), parse_reference=parse_reference))
    stage = config.rewrite.self_align
    requests = [
        {
            "num_samples": stage.num_samples,
            "temperature": stage.temperature,
            "max_tokens": stage.max_tokens,
            "seed": stable_seed(config.seed, problem.problem_id, "self_align", "0"),
        }
        for problem in problems
    ]
    work = {
        "target": config.target.model_dump(mode="json"),
        "end_of_turn_id": prompter.end_of_turn_id,
        "prompts": [prompter.plain(problem) for problem in problems],
        "requests": requests,
    }
    path = folder / "raw.json"
    path.write_text(json.dumps(work))
    output = _run([sys.executable, "-m", "drsft.policy.raw", str(path)], threads)
    result = json.loads(output.strip().splitlines()[-1])
    return float(result["num_tokens"] / result["seconds"])


def _run(command: list[str], threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def _make_random_model(folder: Path) -> None:
    """28M parameters under the embedded model's tokenizer; it never finds the end of a turn on purpose."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_location("embedded"))
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
