"""The service under ten times its load, when parts of it are killed, and when clients go away."""

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from drsft.errors import StageError
from serve.bench.servers import engine_processes, our_service

__all__ = ["FaultBench", "bench_faults", "print_faults"]

ASK = {"problem": "Ann has 43 cups, gets 46, gives 7. How many?", "reference": "82"}
LONG = {"self_align_samples": 8, "guided_samples": 0, "max_tokens": 128, "temperature": 2.0}
OVERLOAD_DEADLINE_S = 10.0
LIMIT_S = 60.0  # longer than a recovery: what waits for a new engine is answered by it
RECOVERY_LIMIT_S = 180.0
NUM_ASKED_AGAIN = 50


@dataclass(slots=True)
class Load:
    """Answers of an open loop: seconds by status, and what became of each seed."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    num_broken: int = 0  # connections that ended without an answer
    solutions: dict[int, str | None] = field(default_factory=dict)
    num_different: int = 0  # of the solutions: asked again in peace, the seed gave another

    @property
    def counts(self) -> dict[int, int]:
        return {status: len(times) for status, times in sorted(self.seconds.items())}

    def p99_ms(self, status: int) -> float:
        times = self.seconds.get(status, [])
        return 1000 * statistics.quantiles(times, n=100)[98] if len(times) > 1 else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBench:
    sustainable_per_s: float
    overload: Load
    memory_mib: tuple[float, float]  # of the replicas, before and after the overload
    calm_after_s: float  # from the overload's end to an answer in normal time
    killed: dict[str, tuple[float, Load]]  # deployment -> seconds to recovery, answers meanwhile
    freed_after_s: tuple[float, ...]  # from a client's leaving to an idle engine


def bench_faults(config: Path, *, overload_s: float = 60) -> FaultBench:
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as name:
        access = "{open_on_loopback: true, requests_per_minute: 1000000, tokens_per_minute: 1000000000}"
        limits = f"{{tokens_in_flight: 8000, deadline_s: {LIMIT_S}}}"
        overrides = [f"access={access}", f"limits={limits}", "score_phi=false"]
        with our_service(config, Path(name), *overrides) as (url, process):
            return asyncio.run(_measure(url, process, overload_s))


def print_faults(bench: FaultBench, console: Console | None = None) -> None:
    table = Table("what", "measured", title="the service under faults")
    table.add_row("sustainable", f"{bench.sustainable_per_s:.1f} requests/s")
    table.add_row("overload, ten times that: answers by status", str(bench.overload.counts))
    table.add_row("  p99 of 429", f"{bench.overload.p99_ms(429):.0f} ms")
    table.add_row("  p99 of 200", f"{bench.overload.p99_ms(200):.0f} ms")
    table.add_row("  memory of the replicas before, after", "{:,.0f}, {:,.0f} MiB".format(*bench.memory_mib))
    table.add_row("  normal service after its end", f"{bench.calm_after_s:.2f} s")
    for name, (seconds, load) in bench.killed.items():
        table.add_row(f"kill -9 of the {name}: back after", f"{seconds:.1f} s")
        table.add_row("  answers meanwhile, connections broken", f"{load.counts}, {load.num_broken}")
        table.add_row("  p99 of 200", f"{load.p99_ms(200) / 1000:.1f} s")
        table.add_row("  other solutions when asked again", f"{load.num_different}")
    freed = ", ".join(f"{seconds:.2f}" for seconds in bench.freed_after_s)
    table.add_row("engine idle after its clients went away", f"{freed} s")
    (console or Console()).print(table)


async def _measure(url: str, process: psutil.Process, overload_s: float) -> FaultBench:
    limits = httpx.Limits(max_connections=2000, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=2 * LIMIT_S, limits=limits) as client:
        seeds = itertools.count()
        sustainable = await _sustainable(client, seeds)
        before = _memory_mib(process)
        overload = await _open_loop(
            client, seeds, per_s=10 * sustainable, seconds=overload_s, deadline_s=OVERLOAD_DEADLINE_S
        )
        calm = await _calm(client, seeds)
        memory = (before, _memory_mib(process))
        freed = [await _leave(url, client) for _ in range(5)]
        killed = {}
        for name in ("engine", "ingress"):
            killed[name] = await _kill(name, process, client, seeds, per_s=sustainable / 2)
    return FaultBench(
        sustainable_per_s=sustainable,
        overload=overload,
        memory_mib=memory,
        calm_after_s=calm,
        killed=killed,
        freed_after_s=tuple(freed),
    )


async def _ask(
    client: httpx.AsyncClient, seed: int, load: Load, *, deadline_s: float = LIMIT_S
) -> int | None:
    started_s = time.perf_counter()
    try:
        answer = await client.post("/rewrite", json={**ASK, "seed": seed, "deadline_s": deadline_s})
    except httpx.TransportError:
        load.num_broken += 1
        return None
    load.seconds.setdefault(answer.status_code, []).append(time.perf_counter() - started_s)
    if answer.status_code == 200:
        load.solutions[seed] = answer.json()["solution"]
    elif answer.status_code in (429, 503) and "Retry-After" not in answer.headers:
        raise StageError(f"an answer {answer.status_code} without Retry-After")
    return answer.status_code


async def _ask_again(client: httpx.AsyncClient, load: Load) -> None:
    """Compares the newest solutions with what their seeds give in peace; a new key keeps memory out."""
    for seed, solution in list(load.solutions.items())[-NUM_ASKED_AGAIN:]:
        headers = {"Idempotency-Key": f"again-{seed}"}
        answer = await client.post("/rewrite", json={**ASK, "seed": seed}, headers=headers)
        answer.raise_for_status()
        load.num_different += answer.json()["solution"] != solution


async def _sustainable(client: httpx.AsyncClient, seeds: Iterator[int], seconds: float = 10) -> float:
    """Requests a second with eight under way, after a warm-up."""
    for _ in range(8):
        await _ask(client, next(seeds), Load())
    load, until_s = Load(), time.perf_counter() + seconds

    async def worker() -> None:
        while time.perf_counter() < until_s:
            await _ask(client, next(seeds), load)

    await asyncio.gather(*(worker() for _ in range(8)))
    return load.counts.get(200, 0) / seconds


async def _open_loop(
    client: httpx.AsyncClient,
    seeds: Iterator[int],
    *,
    per_s: float,
    seconds: float,
    is_over: Callable[[], bool] = lambda: False,
    deadline_s: float = LIMIT_S,
) -> Load:
    """Requests that come at their times, whatever became of those before."""
    load = Load()
    started_s = time.perf_counter()
    tasks = []
    for number in range(int(per_s * seconds)):
        wait_s = started_s + number / per_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if is_over():
            break
        tasks.append(asyncio.create_task(_ask(client, next(seeds), load, deadline_s=deadline_s)))
    await asyncio.gather(*tasks)
    return load


async def _calm(client: httpx.AsyncClient, seeds: Iterator[int]) -> float:
    """Seconds until a request is answered with 200 again."""
    started_s = time.perf_counter()
    while await _ask(client, next(seeds), Load()) != 200:
        if time.perf_counter() - started_s > RECOVERY_LIMIT_S:
            raise StageError("no normal answer after the overload")
        await asyncio.sleep(0.05)
    return time.perf_counter() - started_s


async def _leave(url: str, client: httpx.AsyncClient) -> float:
    """Asks for long samples, goes away in their midst; seconds until the engine has nothing to do."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as leaver:
        asks = [asyncio.create_task(leaver.post("/rewrite", json={**ASK, "recipe": LONG})) for _ in range(4)]
        while await _num_pending(client) == 0:  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.005)
        for task in asks:
            task.cancel()
    started_s = time.perf_counter()
    while await _num_pending(client):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return time.perf_counter() - started_s


def _memory_mib(process: psutil.Process) -> float:
    replicas = engine_processes(process, "engine") + engine_processes(process, "ingress")
    return sum(float(one.memory_info().rss) for one in replicas) / 2**20


async def _num_pending(client: httpx.AsyncClient) -> int:
    return int((await client.get("/readyz")).json()["engine_requests"])


async def _kill(
    name: str,
    process: psutil.Process,
    client: httpx.AsyncClient,
    seeds: Iterator[int],
    *,
    per_s: float,
) -> tuple[float, Load]:
    """Kills a replica under load; seconds until a new one answers, and all answers until then."""
    victims = engine_processes(process, name)
    if not victims:
        raise StageError(f"no process of the {name} was found")
    is_back = asyncio.Event()
    load_task = asyncio.create_task(
        _open_loop(client, seeds, per_s=per_s, seconds=RECOVERY_LIMIT_S, is_over=is_back.is_set)
    )
    await asyncio.sleep(1)  # the load is under way
    killed_s = time.perf_counter()
    for victim in victims:
        victim.kill()
    old = {victim.pid for victim in victims}
    while not await _is_back(name, process, client, seeds, old):
        if time.perf_counter() - killed_s > RECOVERY_LIMIT_S:
            raise StageError(f"the {name} did not come back")
        await asyncio.sleep(0.1)
    seconds = time.perf_counter() - killed_s
    is_back.set()
    load = await load_task
    await _ask_again(client, load)
    return seconds, load


async def _is_back(
    name: str,
    process: psutil.Process,
    client: httpx.AsyncClient,
    seeds: Iterator[int],
    old: set[int],
) -> bool:
    new: list[Any] = [one for one in engine_processes(process, name) if one.pid not in old]
    return bool(new) and await _ask(client, next(seeds), Load()) == 200
