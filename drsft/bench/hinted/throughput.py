"""Measures the speed of both engines of Hinted Decoding (torch and vLLM), relative to a loop that decodes one
problem at a time.

All three decode drsft's own problems greedily, one after the other in each round; the loop decodes only the
first few. The bench also counts the problems for which their tokens are equal. Under settings that strain the
vLLM engine (a small cache, few tokens a step) it counts the results that differ from the torch engine's and
the pairs that were decoded again.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drsft.bench.hinted.peer_loop import decode_by_default
from drsft.bench.models import EMBEDDED, ModelUse, bench_model
from drsft.config import EMBEDDED_PROMPTS, Constant, Engine, Linear, Mixing, Problems, Target
from drsft.intake.problems import Intake, read_problems
from drsft.policy.hinted.protocol import Contexts, HintedDecoder
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.protocol import Policy
from drsft.process.collector import freeze_heap
from drsft.records import Completion, Sampling

__all__ = ["HintedBench", "bench_hinted", "print_bench"]

MAX_TOKENS = 128
STRESS: Mapping[str, Mapping[str, Any]] = {
    "odd number of sequences": {"max_num_seqs": 7},
    "chunked prefill, small token budget": {
        "enable_chunked_prefill": True, "max_num_batched_tokens": 256, "max_num_seqs": 33,
    },
    "token budget below most pairs of prompts": {
        "enable_chunked_prefill": True, "max_num_batched_tokens": 96, "max_num_seqs": 16,
    },
    "cache for a tenth": {"kv_cache_memory_bytes": 3 << 20, "block_size": 32},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """Counts from decoding pairs (a problem's two contexts) under stress: results that differ from the torch
    engine's, and pairs that were decoded again.
    """

    setting: str
    temperature: float
    num_pairs: int
    num_different: int
    num_redone: int
    num_apart: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HintedBench:
    tokens_per_s: Mapping[str, Sequence[float]]  # side -> rounds; a pair's token counts once
    equal: Mapping[str, tuple[int, int]]  # claim -> problems for which it holds, problems
    stress: Sequence[Stress]

    def ratios(self, side: str) -> list[float]:
        loop = self.tokens_per_s["one by one"]
        return [ours / peer for ours, peer in zip(self.tokens_per_s[side], loop, strict=True)]


def bench_hinted(
    *,
    model: str = EMBEDDED,
    num_rounds: int = 3,
    num_problems: int = 256,
    num_alone: int = 50,
    num_stressed: int = 40,
) -> HintedBench:
    """Measures how fast the torch and the vLLM engine of Hinted Decoding decode `num_problems` problems in
    each round, and for how many problems their tokens are equal.

    In each round, a loop decodes the first `num_alone` problems one by one, for comparison. The vLLM engine
    decodes the first `num_stressed` problems under each setting of STRESS.
    """
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        target = _target(bench_model(model, Path(folder)), 2 * num_problems)
        return _bench(target, num_rounds, num_problems, num_alone, num_stressed)


def _bench(
    target: Target, num_rounds: int, num_problems: int, num_alone: int, num_stressed: int
) -> HintedBench:
    from drsft.policy.hinted.torch_engine import TorchHintedDecoder, load_model
    from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder

    prompter = target_prompter(target)
    contexts = list(islice(_contexts(prompter), num_problems))
    model = load_model(target)
    speeds: dict[str, list[float]] = {"one by one": [], "torch engine": [], "vLLM engine": []}
    with (
        TorchHintedDecoder(target, prompter) as torch_engine,
        VLLMHintedDecoder(target, prompter) as vllm_engine,
    ):
        engines: dict[str, HintedDecoder] = {"torch engine": torch_engine, "vLLM engine": vllm_engine}
        for engine in engines.values():
            _decode_all(engine, contexts[:2], Mixing(), _greedy())  # the first requests warm the engine up
        freeze_heap()  # as every rewriting actor does
        for _ in range(num_rounds):
            started_s = time.perf_counter()
            alone = [
                decode_by_default(model, prompter, one, max_tokens=MAX_TOKENS) for one in contexts[:num_alone]
            ]
            speeds["one by one"].append(_speed(alone, started_s))
            for name, engine in engines.items():
                started_s = time.perf_counter()
                speeds[name].append(_speed(_decode_all(engine, contexts, Mixing(), _greedy()), started_s))
        equal: dict[str, tuple[int, int]] = {}
        for name, engine in engines.items():
            few = contexts[:num_alone]
            equal |= {
                f"{name}: {claim}": held for claim, held in _claims(engine, vllm_engine.policy, few, alone)
            }
        references = _references(torch_engine, contexts[:num_stressed])
    settings = STRESS if num_stressed else ()
    stress = [one for setting in settings for one in _stress(target, prompter, setting, references)]
    return HintedBench(tokens_per_s=speeds, equal=equal, stress=stress)


def print_bench(bench: HintedBench, console: Console | None = None) -> None:
    console = console or Console()
    speed = Table("tokens/s", "median", "min", "max", "times one by one, median (min-max)")
    for side, values in bench.tokens_per_s.items():
        ratios = bench.ratios(side)
        median, low, high = (f"{f(ratios):.1f}" for f in (statistics.median, min, max))
        rates = [f"{f(values):,.0f}" for f in (statistics.median, min, max)]
        speed.add_row(side, *rates, f"{median} ({low}-{high})")
    console.print(speed)
    equal = Table("what must be equal, token for token", "equal", "of")
    for claim, (num_equal, num_all) in bench.equal.items():
        equal.add_row(claim, str(num_equal), str(num_all))
    console.print(equal)
    stress = Table("stress", "temperature", "pairs", "different", "redone", "decoded apart")
    for one in bench.stress:
        figures = (one.num_pairs, one.num_different, one.num_redone, one.num_apart)
        stress.add_row(one.setting, f"{one.temperature:g}", *map(str, figures))
    console.print(stress)


def _target(use: ModelUse, max_num_seqs: int) -> Target:
    engine = Engine(max_num_seqs=max_num_seqs, kv_cache_mib=1024, enforce_eager=True)
    return Target.model_validate(
        {**use.target, "max_model_len": 512, "prompts": EMBEDDED_PROMPTS, "engine": engine}
    )


def _contexts(prompter: Prompter) -> Iterator[Contexts]:
    problems = Problems(path="embedded:train")
    for problem in read_problems(problems, Intake()):
        yield Contexts(hinted_ids=prompter.guided(problem), plain_ids=prompter.plain(problem))


def _greedy() -> Sampling:
    return Sampling(num_samples=1, temperature=0.0, max_tokens=MAX_TOKENS, seed=0)


def _speed(found: Sequence[Sequence[int]], started_s: float) -> float:
    return sum(map(len, found)) / (time.perf_counter() - started_s)


def _decode_all(
    engine: HintedDecoder, contexts: Sequence[Contexts], mixing: Mixing, sampling: Sampling
) -> list[tuple[int, ...]]:
    async def gather() -> list[Sequence[Completion]]:
        return await asyncio.gather(*(engine.decode(one, mixing, sampling) for one in contexts))

    return [completions[0].token_ids for completions in asyncio.run(gather())]


def _claims(
    engine: HintedDecoder, policy: Policy, contexts: Sequence[Contexts], alone: Sequence[tuple[int, ...]]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields each equality that must hold, with the number of pairs for which it holds and the number of all
    pairs.

    Greedy decoding must equal decoding one by one; each context alone must equal plain decoding of its
    prompt.
    """

    async def plainly(prompts: Sequence[tuple[int, ...]]) -> list[list[Completion]]:
        return await asyncio.gather(*(policy.generate(prompt, _greedy()) for prompt in prompts))

    def count(found: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        return sum(a == b for a, b in zip(found, expected, strict=True)), len(expected)

    yield "greedy is one by one", count(_decode_all(engine, contexts, Mixing(), _greedy()), alone)
    sides = {
        "beta 0 is the hinted prompt": (Linear(beta=0), [one.hinted_ids for one in contexts]),
        "lambda 1 is the plain prompt": (Constant(weight=1), [one.plain_ids for one in contexts]),
    }
    for claim, (schedule, prompts) in sides.items():
        mixing = Mixing(schedule=schedule, hinted_first_token=False, answer_marker=None)
        expected = [completions[0].token_ids for completions in asyncio.run(plainly(prompts))]
        yield claim, count(_decode_all(engine, contexts, mixing, _greedy()), expected)


References = dict[float, tuple[Sequence[Contexts], Sampling, list[tuple[int, ...]]]]


def _references(engine: HintedDecoder, contexts: Sequence[Contexts]) -> References:
    """Returns the completions of an engine with enough memory, by temperature."""
    samplings = (
        _greedy(),
        Sampling(num_samples=1, temperature=0.3, top_p=0.95, max_tokens=MAX_TOKENS, seed=7),
    )
    return {
        sampling.temperature: (contexts, sampling, _decode_all(engine, contexts, Mixing(), sampling))
        for sampling in samplings
    }


def _stress(target: Target, prompter: Prompter, setting: str, references: References) -> Iterator[Stress]:
    """Yields the counts with the engine's admission control and without it, where pairs must be decoded
    again.
    """
    from drsft.policy.hinted.admission import AdmitAtOnce, AdmitInStep
    from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder

    for admission, name in ((AdmitInStep(), setting), (AdmitAtOnce(), f"{setting}, no admission")):
        options = STRESS[setting]
        with VLLMHintedDecoder(target, prompter, engine_options=options, admission=admission) as engine:
            for temperature, (contexts, sampling, expected) in references.items():
                before = replace(engine.counts)
                found = _decode_all(engine, contexts, Mixing(), sampling)
                yield Stress(
                    setting=name,
                    temperature=temperature,
                    num_pairs=len(found),
                    num_different=sum(a != b for a, b in zip(found, expected, strict=True)),
                    num_redone=engine.counts.num_redone - before.num_redone,
                    num_apart=engine.counts.num_apart - before.num_apart,
                )
