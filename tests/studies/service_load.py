"""Requests to a service at a given rate, and what became of them.

The client is aiohttp's: httpx looks through all its connections at every request, which takes longer than the
service where thousands are under way.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from drsft.errors import StageError

__all__ = ["ASK", "LIMIT_S", "Load", "ask", "ask_again", "load_client", "open_loop", "sustainable"]

ASK = {"problem": "Ann has 43 cups, gets 46, gives 7. How many?", "reference": "82"}
LIMIT_S = 60.0  # longer than a recovery: what waits for a new engine is answered by it
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

    def percentile_ms(self, status: int, percent: int) -> float:
        times = self.seconds.get(status, [])
        return 1000 * statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("nan")


def load_client(url: str | None = None) -> aiohttp.ClientSession:
    """As many connections as there are requests under way."""
    return aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=2 * LIMIT_S)
    )


async def ask(
    client: aiohttp.ClientSession, seed: int, load: Load, *, deadline_s: float = LIMIT_S
) -> int | None:
    started_s = time.perf_counter()
    try:
        async with client.post("/rewrite", json={**ASK, "seed": seed, "deadline_s": deadline_s}) as answer:
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError):
        load.num_broken += 1
        return None
    load.seconds.setdefault(answer.status, []).append(time.perf_counter() - started_s)
    if answer.status == 200:
        load.solutions[seed] = body["solution"]
    elif answer.status in (429, 503) and "Retry-After" not in answer.headers:
        raise StageError(f"an answer {answer.status} without Retry-After")
    return answer.status


async def ask_again(client: aiohttp.ClientSession, load: Load) -> None:
    """Compares the newest solutions with what their seeds give in peace, not from the ingress's memory."""
    same = {"recipe": {"fallback": "drop"}}  # of a problem without expert it changes the request alone
    for seed, solution in list(load.solutions.items())[-NUM_ASKED_AGAIN:]:
        async with client.post("/rewrite", json={**ASK, **same, "seed": seed}) as answer:
            answer.raise_for_status()
            load.num_different += (await answer.json())["solution"] != solution


async def sustainable(client: aiohttp.ClientSession, seeds: Iterator[int], seconds: float = 10) -> float:
    """Requests a second with eight under way, after a warm-up."""
    for _ in range(8):
        await ask(client, next(seeds), Load())
    load, until_s = Load(), time.perf_counter() + seconds

    async def worker() -> None:
        while time.perf_counter() < until_s:
            await ask(client, next(seeds), load)

    await asyncio.gather(*(worker() for _ in range(8)))
    return load.counts.get(200, 0) / seconds


async def open_loop(
    client: aiohttp.ClientSession,
    seeds: Iterator[int],
    *,
    per_s: float,
    seconds: float,
    load: Load,
    is_over: Callable[[], bool] = lambda: False,
    deadline_s: float = LIMIT_S,
) -> None:
    """Requests that come at their times, whatever became of those before."""
    started_s = time.perf_counter()
    tasks = []
    for number in range(int(per_s * seconds)):
        wait_s = started_s + number / per_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if is_over():
            break
        tasks.append(asyncio.create_task(ask(client, next(seeds), load, deadline_s=deadline_s)))
    await asyncio.gather(*tasks)
