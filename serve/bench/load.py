"""Requests to a service at a given rate, and what became of them."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

from drsft.errors import StageError

__all__ = ["ASK", "LIMIT_S", "Load", "ask", "ask_again", "open_loop", "sustainable"]

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

    def p99_ms(self, status: int) -> float:
        times = self.seconds.get(status, [])
        return 1000 * statistics.quantiles(times, n=100)[98] if len(times) > 1 else float("nan")


async def ask(client: httpx.AsyncClient, seed: int, load: Load, *, deadline_s: float = LIMIT_S) -> int | None:
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


async def ask_again(client: httpx.AsyncClient, load: Load) -> None:
    """Compares the newest solutions with what their seeds give in peace; a new key keeps memory out."""
    for seed, solution in list(load.solutions.items())[-NUM_ASKED_AGAIN:]:
        headers = {"Idempotency-Key": f"again-{seed}"}
        answer = await client.post("/rewrite", json={**ASK, "seed": seed}, headers=headers)
        answer.raise_for_status()
        load.num_different += answer.json()["solution"] != solution


async def sustainable(client: httpx.AsyncClient, seeds: Iterator[int], seconds: float = 10) -> float:
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
    client: httpx.AsyncClient,
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
