"""The service under ten times its load, when parts of it are killed, and when clients go away."""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import psutil
import typer
from rich.console import Console
from rich.table import Table

from drsft.bench.serving.servers import our_service
from drsft.errors import StageError
from tests.studies.service_load import ASK, LIMIT_S, Load, ask, ask_again, load_client, open_loop, sustainable
from tests.studies.service_update import Update, bench_update
from tests.support.service_processes import engine_processes

__all__ = ["FaultBench", "bench_faults", "print_faults"]

LONG = {"self_align_samples": 8, "guided_samples": 0, "max_tokens": 128, "temperature": 2.0}
OVERLOAD_DEADLINE_S = 10.0
RECOVERY_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBench:
    sustainable_per_s: float
    overload: Load
    memory_mib: tuple[float, float]  # of the replicas, before and after the overload
    calm_after_s: float  # from the overload's end to an answer in normal time
    killed: dict[str, tuple[float, Load]]  # deployment -> seconds to recovery, answers meanwhile
    freed_after_s: tuple[float, ...]  # from a client's leaving to an idle engine


def bench_faults(
    config: Path, *, overload_s: float = 60, say: Callable[[str], None] = lambda line: None
) -> tuple[FaultBench, Update]:
    """`say` hears of each step as it is done; the whole takes some minutes."""
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as name:
        access = "{open_on_loopback: true, requests_per_minute: 1000000, tokens_per_minute: 1000000000}"
        limits = f"{{tokens_in_flight: 8000, deadline_s: {LIMIT_S}}}"
        overrides = [f"access={access}", f"limits={limits}", "score_phi=false"]
        with our_service(config, Path(name), *overrides) as (url, process):
            bench = asyncio.run(_measure(url, process, overload_s, say))
        say("another model under load ...")
        return bench, bench_update(config, Path(name), per_s=bench.sustainable_per_s / 4)


def print_faults(bench: FaultBench, update: Update, console: Console | None = None) -> None:
    table = Table("what", "measured", title="the service under faults")
    table.add_row("sustainable", f"{bench.sustainable_per_s:.1f} requests/s")
    table.add_row("overload, ten times that: answers by status", str(bench.overload.counts))
    table.add_row("  connections broken", f"{bench.overload.num_broken}")
    for status in (429, 200):
        p50, p99 = (bench.overload.percentile_ms(status, percent) for percent in (50, 99))
        table.add_row(f"  p50, p99 of {status}", f"{p50:.0f}, {p99:.0f} ms")
    table.add_row("  memory of the replicas before, after", "{:,.0f}, {:,.0f} MiB".format(*bench.memory_mib))
    table.add_row("  normal service after its end", f"{bench.calm_after_s:.2f} s")
    for name, (seconds, load) in bench.killed.items():
        table.add_row(f"kill -9 of the {name}: back after", f"{seconds:.1f} s")
        table.add_row("  answers meanwhile, connections broken", f"{load.counts}, {load.num_broken}")
        table.add_row("  p99 of 200", f"{load.percentile_ms(200, 99) / 1000:.1f} s")
        table.add_row("  other solutions when asked again", f"{load.num_different}")
    freed = ", ".join(f"{seconds:.2f}" for seconds in bench.freed_after_s)
    table.add_row("engine idle after its clients went away", f"{freed} s")
    table.add_row("another model under load, with a spare engine", f"{update.seconds:.1f} s")
    table.add_row("  answers meanwhile, models", f"{update.load.counts}, {' '.join(update.models)}")
    (console or Console()).print(table)


async def _measure(
    url: str, process: psutil.Process, overload_s: float, say: Callable[[str], None]
) -> FaultBench:
    async with load_client(url) as client:
        seeds = itertools.count()
        rate = await sustainable(client, seeds)
        say(f"sustainable: {rate:.1f} requests/s; ten times that for {overload_s:g} s ...")
        before = _memory_mib(process)
        overload = Load()
        await open_loop(
            client,
            seeds,
            per_s=10 * rate,
            seconds=overload_s,
            load=overload,
            deadline_s=OVERLOAD_DEADLINE_S,
        )
        calm = await _calm(client, seeds)
        memory = (before, _memory_mib(process))
        say(f"overload: {overload.counts}, 99 % of 429 within {overload.percentile_ms(429, 99):.0f} ms")
        freed = [await _leave(client) for _ in range(5)]
        say(f"clients left, the engine was idle after {max(freed):.2f} s at most")
        killed = {}
        for name in ("engine", "ingress"):
            killed[name] = await _kill(name, process, client, seeds, per_s=rate / 2)
            say(f"kill -9 of the {name}: back after {killed[name][0]:.1f} s, {killed[name][1].counts}")
    return FaultBench(
        sustainable_per_s=rate,
        overload=overload,
        memory_mib=memory,
        calm_after_s=calm,
        killed=killed,
        freed_after_s=tuple(freed),
    )


async def _calm(client: aiohttp.ClientSession, seeds: Iterator[int]) -> float:
    """Seconds until a request is answered with 200 again."""
    started_s = time.perf_counter()
    while await ask(client, next(seeds), Load()) != 200:
        if time.perf_counter() - started_s > RECOVERY_LIMIT_S:
            raise StageError("no normal answer after the overload")
        await asyncio.sleep(0.05)
    return time.perf_counter() - started_s


async def _leave(client: aiohttp.ClientSession) -> float:
    """Asks for long samples, goes away in their midst; seconds until the engine has nothing to do."""

    async def long() -> None:
        async with client.post("/rewrite", json={**ASK, "recipe": LONG}) as answer:
            await answer.read()

    asks = [asyncio.create_task(long()) for _ in range(4)]
    while await _num_pending(client) == 0:  # what is waited for is in another process
        if any(task.done() for task in asks):
            raise StageError("a long request ended before the engine was seen at it")
        await asyncio.sleep(0.005)
    for task in asks:
        task.cancel()  # and with it its connection
    started_s = time.perf_counter()
    while await _num_pending(client):
        if time.perf_counter() - started_s > LIMIT_S:
            raise StageError("the engine goes on with what nobody waits for")
        await asyncio.sleep(0.01)
    return time.perf_counter() - started_s


def _memory_mib(process: psutil.Process) -> float:
    replicas = engine_processes(process, "engine") + engine_processes(process, "ingress")
    return sum(float(one.memory_info().rss) for one in replicas) / 2**20


async def _num_pending(client: aiohttp.ClientSession) -> int:
    async with client.get("/readyz") as answer:
        return int((await answer.json())["engine_requests"])


async def _kill(
    name: str,
    process: psutil.Process,
    client: aiohttp.ClientSession,
    seeds: Iterator[int],
    *,
    per_s: float,
) -> tuple[float, Load]:
    """Kills a replica under load; seconds until a new one answers, and all answers until then."""
    victims = engine_processes(process, name)
    if not victims:
        raise StageError(f"no process of the {name} was found")
    is_back = asyncio.Event()
    load = Load()
    load_task = asyncio.create_task(
        open_loop(client, seeds, per_s=per_s, seconds=RECOVERY_LIMIT_S, load=load, is_over=is_back.is_set)
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
    await load_task
    await ask_again(client, load)
    return seconds, load


async def _is_back(
    name: str,
    process: psutil.Process,
    client: aiohttp.ClientSession,
    seeds: Iterator[int],
    old: set[int],
) -> bool:
    new: list[Any] = [one for one in engine_processes(process, name) if one.pid not in old]
    return bool(new) and await ask(client, next(seeds), Load()) == 200


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="As of drsft serve.")] = Path(
        "serve/local.yaml"
    ),
    overload_s: Annotated[float, typer.Option(min=1, help="Seconds of ten times the load.")] = 60,
) -> None:
    """Overload the service, kill its parts, leave it and update its model, under load; some minutes."""
    say = partial(print, file=sys.stderr, flush=True)
    print_faults(*bench_faults(config, overload_s=overload_s, say=say))


if __name__ == "__main__":
    typer.run(main)
