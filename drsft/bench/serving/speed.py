"""Measures the service against the same model without it: overhead of a request, and throughput.

For every figure, the service, its peer and the client run together on one machine.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from rich.console import Console
from rich.table import Table

from drsft.bench.models import EMBEDDED, bench_model
from drsft.bench.serving.servers import bare_engine, our_service, vllm_server
from drsft.config import Problems, Target
from drsft.config.configfile import load_settings
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, target_prompter
from drsft.records import Problem, problem_id_of, stable_seed
from serve.settings import ServeConfig

__all__ = ["ServeBench", "bench_serve", "print_bench"]

CONCURRENCY = 32
MAX_TOKENS = 64
WARM_UP = 20  # requests of those one at a time
REQUEST_LIMIT_S = 120.0
KV_CACHE_MIB = 512  # of both servers: for 32 requests of a model of 135M parameters, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeBench:
    """Times of single requests, and tokens per second at a concurrency of 32, in interleaved rounds."""

    ours: tuple[tuple[int, float], ...]  # tokens and seconds of each request
    bare: tuple[tuple[int, float], ...]
    our_tokens_per_s: tuple[float, ...]
    raw_tokens_per_s: tuple[float, ...]

    @property
    def overheads_ms(self) -> list[float]:
        """The service's extra milliseconds for each single request, relative to vLLM without the service.

        Requests for which the two sampled different numbers of tokens are left out; nearly none do.
        """
        return [
            1000 * (our_s - bare_s)
            for (our_tokens, our_s), (bare_tokens, bare_s) in zip(self.ours, self.bare, strict=True)
            if our_tokens == bare_tokens
        ]

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.our_tokens_per_s, self.raw_tokens_per_s, strict=True)
        return [ours / raw for ours, raw in pairs]


def bench_serve(
    config: Path,
    *,
    num_rounds: int = 5,
    num_requests: int = 200,
    num_single: int = 200,
    model: str = EMBEDDED,
    say: Callable[[str], None] = lambda line: None,
) -> ServeBench:
    """Measures the service and vLLM without it, with one sample a request and equal prompts, seeds and
    lengths.

    `num_single` requests, which must be more than WARM_UP + 1, are answered one at a time; the first WARM_UP
    only warm up. `say` gets a line after each part.
    """
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as name:
        folder = Path(name)
        overrides = [f"target.{key}={value}" for key, value in bench_model(model, folder).target.items()]
        overrides.append(f"target.engine.kv_cache_mib={KV_CACHE_MIB}")
        target, problems, prompter = _material(config, overrides, max(num_requests, num_single))
        work = _work(target, problems, prompter)
        with our_service(config, folder, *overrides, *_one_sample()) as (url, _):
            with bare_engine(work, folder) as engine:
                ours, bare = _one_by_one(url, problems[:num_single], engine.ask)
            say(f"one request at a time: {num_single} on each side are done")
            loaded = problems[:num_requests]
            with vllm_server(target, folder) as raw_url:
                our_rates, raw_rates = [], []
                for number in range(1, num_rounds + 1):  # new seeds, since the service caches its results
                    seeds = range(number * num_requests, (number + 1) * num_requests)
                    our_rates.append(asyncio.run(_rate(_ours(url, loaded, seeds))))
                    raw_rates.append(asyncio.run(_rate(_raw(raw_url, work, loaded, seeds))))
                    say(f"round {number}: {our_rates[-1]:,.0f} tokens/s, vLLM's server {raw_rates[-1]:,.0f}")
    return ServeBench(
        ours=tuple(ours),
        bare=tuple(bare),
        our_tokens_per_s=tuple(our_rates),
        raw_tokens_per_s=tuple(raw_rates),
    )


def print_bench(bench: ServeBench, console: Console | None = None) -> None:
    table = Table("milliseconds", "p50", "p99", title=f"one request at a time, {len(bench.ours)} of them")
    ours, bare = (_p50_p99([1000 * seconds for _, seconds in side]) for side in (bench.ours, bench.bare))
    for name, (p50, p99) in {
        "POST /rewrite": ours,
        "AsyncLLM in process": bare,
        "difference of these": (ours[0] - bare[0], ours[1] - bare[1]),
        f"difference, request by request ({len(bench.overheads_ms)})": _p50_p99(bench.overheads_ms),
    }.items():
        table.add_row(name, f"{p50:.1f}", f"{p99:.1f}")
    rates = Table("tokens/s", "median", "min", "max", title=f"{CONCURRENCY} at a time")
    for name, values in (
        ("POST /rewrite", list(bench.our_tokens_per_s)),
        ("vLLM's own server", list(bench.raw_tokens_per_s)),
    ):
        rates.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
    rates.add_row("ratio in a round", *(f"{f(bench.ratios):.2f}" for f in (statistics.median, min, max)))
    for one in (table, rates):
        (console or Console()).print(one)


def _p50_p99(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def _material(
    config: Path, overrides: Sequence[str], num_problems: int
) -> tuple[Target, list[Problem], Prompter]:
    target = load_settings(ServeConfig, config, overrides).target
    prompter = target_prompter(target)
    source = Problems(path="embedded:train", limit=num_problems)
    problems = list(read_problems(source, Intake()))
    return target, problems, prompter


def _one_sample() -> list[str]:
    stage = f"{{num_samples: 1, wave_size: 1, max_tokens: {MAX_TOKENS}}}"
    limits = "{tokens_in_flight: 1000000}"
    access = "{open_on_loopback: true, requests_per_minute: 1000000, tokens_per_minute: 1000000000}"
    return [
        f"rewrite.self_align={stage}",
        "rewrite.guided={num_samples: 0}",
        "score_phi=false",
        f"limits={limits}",
        f"access={access}",
    ]


def _work(target: Target, problems: Sequence[Problem], prompter: Prompter) -> dict[str, Any]:
    return {
        "target": target.model_dump(),
        "end_token_ids": prompter.turn.end_token_ids,
        "prompts": [list(prompter.plain(problem)) for problem in problems],
        "requests": [
            {
                "num_samples": 1,
                "temperature": 1.0,
                "max_tokens": MAX_TOKENS,
                "seed": _sampling_seed(problem, seed),
            }
            for seed, problem in enumerate(problems)
        ],
    }


def _sampling_seed(problem: Problem, seed: int) -> int:
    """Returns the seed that the cascade derives from a request's seed for its first sample."""
    problem_id = problem_id_of(problem.question, problem.reference)
    return stable_seed(seed, problem_id, "self_align", "0")


def _body(problem: Problem, seed: int) -> dict[str, Any]:
    return {"problem": problem.question, "reference": problem.reference, "seed": seed}


def _one_by_one(
    url: str, problems: Sequence[Problem], ask_bare: Callable[[int], tuple[int, float]]
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Returns tokens and seconds of the same requests on both sides; the first WARM_UP are left out."""
    ours, bare = [], []
    with httpx.Client(base_url=url, timeout=60) as client:
        for index, problem in enumerate(problems):
            bare.append(ask_bare(index))
            started_s = time.perf_counter()
            answer = client.post("/rewrite", json=_body(problem, index))
            seconds = time.perf_counter() - started_s
            answer.raise_for_status()
            ours.append((int(answer.json()["tokens"]["sampled"]), seconds))
    return ours[WARM_UP:], bare[WARM_UP:]


Request = Callable[[aiohttp.ClientSession], Any]


async def _rate(requests: Sequence[Request]) -> float:
    """Returns sampled tokens per second with 32 requests in flight."""
    waiting = iter(requests)
    tokens = 0

    async def worker(client: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for request in waiting:
            num_tokens = await request(client)
            tokens += num_tokens  # in one step: `tokens += await` would lose concurrent additions

    async with _client() as client:
        started_s = time.perf_counter()
        await asyncio.gather(*(worker(client) for _ in range(CONCURRENCY)))
        return tokens / (time.perf_counter() - started_s)


def _ours(url: str, problems: Sequence[Problem], seeds: Sequence[int]) -> list[Request]:
    def make(problem: Problem, seed: int) -> Request:
        async def ask(client: aiohttp.ClientSession) -> int:
            async with client.post(f"{url}/rewrite", json=_body(problem, seed)) as answer:
                answer.raise_for_status()
                return int((await answer.json())["tokens"]["sampled"])

        return ask

    return [make(problem, seed) for problem, seed in zip(problems, seeds, strict=True)]


def _raw(url: str, work: dict[str, Any], problems: Sequence[Problem], seeds: Sequence[int]) -> list[Request]:
    def make(prompt: list[int], seed: int) -> Request:
        body = {
            "model": "target",
            "prompt": prompt,
            "max_tokens": MAX_TOKENS,
            "temperature": 1.0,
            "seed": seed,
            "stop_token_ids": work["end_token_ids"],
        }

        async def ask(client: aiohttp.ClientSession) -> int:
            async with client.post(f"{url}/v1/completions", json=body) as answer:
                answer.raise_for_status()
                return int((await answer.json())["usage"]["completion_tokens"])

        return ask

    return [
        make(prompt, _sampling_seed(problem, seed))
        for prompt, problem, seed in zip(work["prompts"][: len(problems)], problems, seeds, strict=True)
    ]


def _client() -> aiohttp.ClientSession:
    """Returns a client with as many connections as there are requests in flight.

    httpx scans all of its connections at every request, which takes longer than the service itself once
    thousands are in flight.
    """
    timeout = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
