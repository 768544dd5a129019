"""Requests that join another one, when that ends otherwise than with an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serve.api import RewriteRequest
from serve.replay import Replay

REQUEST = RewriteRequest(problem="1 + 1?", reference="2")


class Sampling:
    """Counts what is begun; each ends as it is told, at last with an answer."""

    def __init__(self) -> None:
        self.num_begun = 0
        self.has_begun = asyncio.Event()
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Any:
        self.num_begun += 1
        self.has_begun.set()
        return await asyncio.shield(self.outcome)


def replay() -> Replay:
    return Replay(max_entries=10, keep_s=60)


def asked(memory: Replay, work: Callable[[], Awaitable[Any]], **options: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(memory.run("team", REQUEST, "key", work, **options))


async def joined(first: Sampling, others: Sampling, number: int) -> "list[asyncio.Task[Any]]":
    """The first request under way, and behind it those that joined it."""
    memory = replay()
    task = asked(memory, first)
    await first.has_begun.wait()
    waiting = [asked(memory, others) for _ in range(number)]
    await asyncio.sleep(0)  # each has begun, and waits
    return [task, *waiting]


async def test_when_the_first_is_cut_off_one_of_the_others_samples_for_all() -> None:
    others = Sampling()
    first, *waiting = await joined(Sampling(), others, 3)
    first.cancel()
    await others.has_begun.wait()
    others.outcome.set_result("an answer")
    answers = await asyncio.gather(*waiting)
    assert [answer for answer, _ in answers] == ["an answer"] * 3
    assert others.num_begun == 1
    assert sorted(is_repeated for _, is_repeated in answers) == [False, True, True]


async def test_the_first_ones_deadline_is_not_that_of_the_others() -> None:
    late, others = Sampling(), Sampling()
    first, *waiting = await joined(late, others, 2)
    late.outcome.set_exception(TimeoutError())
    await others.has_begun.wait()
    others.outcome.set_result("an answer")
    assert [answer for answer, _ in await asyncio.gather(*waiting)] == ["an answer"] * 2
    assert others.num_begun == 1
    with pytest.raises(TimeoutError):
        await first


async def test_who_joined_has_a_deadline_of_its_own() -> None:
    memory = replay()
    first = Sampling()
    task = asked(memory, first)
    await first.has_begun.wait()
    with pytest.raises(TimeoutError):
        await asked(memory, first, until_s=asyncio.get_running_loop().time())
    first.outcome.set_result("an answer")
    assert await task == ("an answer", False)
    assert first.num_begun == 1


async def test_who_joined_can_leave_even_in_the_moment_that_the_first_one_does() -> None:
    others = Sampling()
    first, second = await joined(Sampling(), others, 1)
    first.cancel()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert others.num_begun == 0


async def test_a_failure_of_the_work_is_that_of_all_who_joined() -> None:
    failing, others = Sampling(), Sampling()
    tasks = await joined(failing, others, 2)
    failing.outcome.set_exception(RuntimeError())
    for task in tasks:
        with pytest.raises(RuntimeError):
            await task
    assert others.num_begun == 0
