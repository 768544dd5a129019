"""Requests that join another one, when that ends otherwise than with an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.records import Outcome, Source
from serve.api import RewriteRequest, RewriteResult, Timings, TokenCounts
from serve.http.idempotency import IdempotencyConflict, ResultCache

REQUEST = RewriteRequest(problem="1 + 1?", reference="2")


def answer(solution: str = "2") -> RewriteResult:
    return RewriteResult(
        id="a",
        problem_id="p",
        source=Source.OWN,
        solution=solution,
        answer="2",
        outcome=Outcome.CORRECT,
        reason="equal",
        attempts=(),
        tokens=TokenCounts(prompt=1, sampled=1, kept=1),
        timings=Timings(total_s=0.1, sampling_s=0.1, verifying_s=0.1),
        mean_phi=None,
        seed=1,
        model="m",
    )


ANSWER = answer()


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


def results(max_entries: int = 10, max_bytes: int = 1 << 20) -> ResultCache:
    return ResultCache(max_entries=max_entries, max_bytes=max_bytes, keep_s=60)


def asked(memory: ResultCache, work: Callable[[], Awaitable[Any]], **options: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(memory.run("team", REQUEST, "key", work, **options))


async def joined(first: Sampling, others: Sampling, number: int) -> "list[asyncio.Task[Any]]":
    """The first request under way, and behind it those that joined it."""
    memory = results()
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
    others.outcome.set_result(ANSWER)
    answers = await asyncio.gather(*waiting)
    assert [answer for answer, _ in answers] == [ANSWER] * 3
    assert others.num_begun == 1
    assert sorted(is_repeated for _, is_repeated in answers) == [False, True, True]


async def test_the_first_ones_deadline_is_not_that_of_the_others() -> None:
    late, others = Sampling(), Sampling()
    first, *waiting = await joined(late, others, 2)
    late.outcome.set_exception(TimeoutError())
    await others.has_begun.wait()
    others.outcome.set_result(ANSWER)
    assert [answer for answer, _ in await asyncio.gather(*waiting)] == [ANSWER] * 2
    assert others.num_begun == 1
    with pytest.raises(TimeoutError):
        await first


async def test_who_joined_has_a_deadline_of_its_own() -> None:
    memory = results()
    first = Sampling()
    task = asked(memory, first)
    await first.has_begun.wait()
    with pytest.raises(TimeoutError):
        await asked(memory, first, until_s=asyncio.get_running_loop().time())
    first.outcome.set_result(ANSWER)
    assert await task == (ANSWER, False)
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


async def done(
    memory: ResultCache, seed: int | None, key: str | None, result: RewriteResult = ANSWER
) -> bool:
    """Whether the answer was there already."""

    async def work() -> RewriteResult:
        return result

    request = RewriteRequest(problem="1 + 1?", reference="2", seed=seed)
    found, is_repeated = await memory.run("team", request, key, work)
    assert found == result
    return is_repeated


async def test_what_a_fixed_seed_gives_is_one_answer_whatever_key_it_came_with() -> None:
    memory = results()
    keys = [None, "a", "b", "a", None]
    assert [await done(memory, 3, key) for key in keys] == [False, True, True, True, True]
    memory = results()
    assert [await done(memory, 3, key) for key in reversed(keys)] == [False, True, True, True, True]


async def test_a_key_that_found_an_answer_of_another_belongs_to_its_request_all_the_same() -> None:
    memory = results()
    await done(memory, 3, None)
    await done(memory, 3, "a")
    for seed in (4, None):
        with pytest.raises(IdempotencyConflict):
            await done(memory, seed, "a")


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=30),
    max_entries=st.integers(1, 30),
    max_bytes=st.integers(1, 20_000),
)
def test_answers_are_bounded_by_number_and_by_bytes_and_the_latest_stay(
    sizes: list[int], max_entries: int, max_bytes: int
) -> None:
    async def run() -> None:
        memory = results(max_entries, max_bytes)
        answers = [answer("語" * size) for size in sizes]
        for seed, one in enumerate(answers):
            assert not await done(memory, seed, None, one)
            assert memory.num_bytes <= max_bytes
        fits, num_bytes = 0, 0
        for one in reversed(answers[-max_entries:]):
            num_bytes += len(one.model_dump_json().encode())
            if num_bytes > max_bytes:
                break
            fits += 1
        remembered = range(len(sizes) - fits, len(sizes))
        assert all([await done(memory, seed, None, answers[seed]) for seed in remembered])
        if fits < len(sizes):
            assert not await done(memory, len(sizes) - fits - 1, None, answers[len(sizes) - fits - 1])

    asyncio.run(run())
