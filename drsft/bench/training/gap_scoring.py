"""Measures how fast the gap report's scoring is, and how its memory grows with row length and vocabulary.

The baseline is a loop: for each row, one forward pass of a transformers model, log_softmax over all of its
logits, and the entropy from them. In each round both run in this process, one after the other, with the same
number of threads.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.bench.models import EMBEDDED
from drsft.bench.subprocesses import last_json_line, run_side
from drsft.config import Problems, Prompts
from drsft.gap.scoring import Row, TokenScores, score_rows
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import load_prompter, model_location
from drsft.process.memory import peak_rss_mib
from drsft.train.model import load_model

__all__ = ["GapBench", "MemoryPoint", "bench_gap", "bench_gap_memory", "print_bench", "print_memory"]

REFERENCE_ROWS = 40  # scored in float64 as well
MEMORY_TOKENS = (2_048, 8_192)
MEMORY_VOCABULARIES = (8_192, 32_768, 152_064)
ROW_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class GapBench:
    """Rows per second of each round, batched and one by one, and the batched scores' largest error in nats
    against float64.
    """

    model: str
    num_threads: int
    num_rows: int
    mean_tokens: float  # of a row
    batched: tuple[float, ...]
    one_by_one: tuple[float, ...]
    max_error: float

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(ours / theirs for ours, theirs in zip(self.batched, self.one_by_one, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPoint:
    num_tokens: int
    vocabulary: int
    growth_mib: float  # peak resident memory while scoring, above what model and rows took

    @property
    def full_logits_mib(self) -> float:
        return self.num_tokens * self.vocabulary * 4 / 2**20


def bench_gap(*, num_rounds: int, num_rows: int, model: str | None = None) -> Iterator[GapBench]:
    """Yields the speeds of each of two default models with one and with two threads.

    If `model`, a folder, is given, only that model is measured.
    """
    ours: dict[str, Callable[[], Any]] = {
        "embedded, 0.5 M parameters, V 776": lambda: load_model(model_location("embedded")).eval(),
        "random, 21 M parameters, V 32,768": lambda: _random_model(hidden=384, layers=6, vocabulary=32_768),
    }
    models = ours if model is None else {model: lambda: load_model(model).eval()}
    rows = _rows(model or EMBEDDED, num_rows)
    before = torch.get_num_threads()
    for name, make in models.items():
        causal_lm = make()
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            yield _bench_model(name, causal_lm, rows, num_threads, num_rounds)
    torch.set_num_threads(before)


def _bench_model(name: str, model: Any, rows: list[Row], num_threads: int, num_rounds: int) -> GapBench:
    rows = rows if model.config.vocab_size < 1_000 else rows[: len(rows) // 8]
    sides: dict[str, Callable[[Any, list[Row]], list[TokenScores]]] = {
        "batched": score_rows,
        "one_by_one": _one_by_one,
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for score in sides.values():
        score(model, rows[: len(rows) // 8])  # warm up
    for _ in range(num_rounds):
        for name_of_side, score in sides.items():
            started_s = time.perf_counter()
            score(model, rows)
            speeds[name_of_side].append(len(rows) / (time.perf_counter() - started_s))
    return GapBench(
        model=name,
        num_threads=num_threads,
        num_rows=len(rows),
        mean_tokens=statistics.mean(len(prompt) + len(completion) for prompt, completion in rows),
        batched=tuple(speeds["batched"]),
        one_by_one=tuple(speeds["one_by_one"]),
        max_error=_max_error(model, rows[:REFERENCE_ROWS]),
    )


@torch.no_grad()
def _one_by_one(model: Any, rows: Sequence[Row]) -> list[TokenScores]:
    scores = []
    for prompt, completion in rows:
        logits_TV = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
        logprobs_TV = torch.log_softmax(logits_TV[len(prompt) - 1 : -1], dim=-1)
        chosen_T = logprobs_TV.gather(1, torch.tensor(completion)[:, None]).squeeze(1)
        entropy_T = -(logprobs_TV.exp() * logprobs_TV).sum(-1)
        scores.append(TokenScores(logprobs_T=chosen_T.double().numpy(), entropy_T=entropy_T.double().numpy()))
    return scores


def _max_error(model: Any, rows: Sequence[Row]) -> float:
    scores = score_rows(model, rows)
    reference = _one_by_one(model.double(), rows)
    model.float()
    return max(
        float(np.abs(getattr(one, name) - getattr(other, name)).max())
        for one, other in zip(scores, reference, strict=True)
        for name in ("logprobs_T", "entropy_T")
    )


def _rows(model: str, num_rows: int) -> list[Row]:
    """Returns the shipped demonstrations, at most 900, each with its plain prompt."""
    prompter = load_prompter(model, Prompts(plain="{question}"))
    problems = [
        problem
        for path in ("embedded:train", "embedded:held_out")
        for problem in read_problems(Problems(path=path), Intake())
    ]
    rows: list[Row] = [(prompter.plain(one), prompter.completion(one.demonstration)) for one in problems]
    return rows[:num_rows]


def _random_model(*, hidden: int, layers: int, vocabulary: int) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def bench_gap_memory() -> Iterator[MemoryPoint]:
    """Yields the peak memory for each vocabulary and number of tokens.

    Each is measured in a new process, since a process's peak never falls.
    """
    for vocabulary in MEMORY_VOCABULARIES:
        for num_tokens in MEMORY_TOKENS:
            command = [
                sys.executable,
                "-m",
                "drsft.bench.training.gap_scoring",
                str(num_tokens),
                str(vocabulary),
            ]
            yield MemoryPoint(**last_json_line(run_side(command)))


def _measure_memory(num_tokens: int, vocabulary: int) -> MemoryPoint:
    model = _random_model(hidden=64, layers=1, vocabulary=vocabulary)
    rng = np.random.default_rng(0)
    ids = rng.integers(vocabulary, size=(num_tokens // ROW_TOKENS, ROW_TOKENS)).tolist()
    rows = [(row[:1], row[1:]) for row in ids]
    score_rows(model, [([1], [2])])  # loads what the first call loads
    before_mib = peak_rss_mib()
    score_rows(model, rows)
    growth_mib = peak_rss_mib() - before_mib
    return MemoryPoint(num_tokens=num_tokens, vocabulary=vocabulary, growth_mib=growth_mib)


def print_bench(bench: GapBench, console: Console | None = None) -> None:
    title = (
        f"{bench.model}; {bench.num_rows} rows of {bench.mean_tokens:.0f} tokens, "
        f"{len(bench.batched)} rounds, {bench.num_threads} threads; "
        f"largest error against float64 {bench.max_error:.1e} nats"
    )
    table = Table("rows/s", "median", "min", "max", title=title)
    for name, values in (("score_rows", bench.batched), ("one by one, full logits", bench.one_by_one)):
        table.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
    table.add_row("ratio in a round", *(f"{f(bench.ratios):.2f}" for f in (statistics.median, min, max)))
    (console or Console()).print(table)


def print_memory(points: Sequence[MemoryPoint], console: Console | None = None) -> None:
    table = Table("tokens", "vocabulary", "memory while scoring, MiB", "full logits would take, MiB")
    for point in points:
        table.add_row(
            f"{point.num_tokens:,}",
            f"{point.vocabulary:,}",
            f"{point.growth_mib:,.0f}",
            f"{point.full_logits_mib:,.0f}",
        )
    (console or Console()).print(table)


if __name__ == "__main__":
    point = _measure_memory(int(sys.argv[1]), int(sys.argv[2]))
    names = ("num_tokens", "vocabulary", "growth_mib")
    print(json.dumps({name: getattr(point, name) for name in names}))
