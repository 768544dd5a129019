"""The line before the room: first come, first served, and nobody who leaves takes anything along."""

import asyncio
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serve.limits.capacity import TokenCapacity
from serve.service_metrics import NoMetrics

LIMIT = 100


async def settled(num_visitors: int = 1) -> None:
    """Everybody who was let in, or left, has noticed, also where each makes room for the next."""
    for _ in range(3 * num_visitors):
        await asyncio.sleep(0)


@dataclass
class Visitor:
    """Waits for room, and stays until it is told to go."""

    room: TokenCapacity
    num_tokens: int

    def __post_init__(self) -> None:
        self.entered, self.may_go = asyncio.Event(), asyncio.Event()
        self.visit = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        await self.room.acquire(self.num_tokens)
        self.entered.set()
        try:
            await self.may_go.wait()
        finally:
            self.room.release(self.num_tokens)


async def visitors(room: TokenCapacity, *sizes: int) -> list[Visitor]:
    found = [Visitor(room, size) for size in sizes]
    await settled()
    return found


def inside(all_of_them: list[Visitor]) -> list[bool]:
    return [one.entered.is_set() for one in all_of_them]


async def test_who_waits_is_let_in_when_enough_has_left_and_not_before() -> None:
    room = TokenCapacity(LIMIT, metrics=NoMetrics())
    first, second, waiting = await visitors(room, 60, 20, 50)
    second.may_go.set()
    await settled()
    assert not waiting.entered.is_set()
    first.may_go.set()
    await settled()
    assert waiting.entered.is_set()


async def test_a_small_one_waits_behind_a_large_one_that_came_before() -> None:
    room = TokenCapacity(LIMIT, metrics=NoMetrics())
    first, large, small = await visitors(room, 80, 90, 10)
    assert inside([first, large, small]) == [True, False, False]
    large.visit.cancel()
    await settled()
    assert inside([first, large, small]) == [True, False, True]


async def test_as_many_are_woken_as_there_is_room_for() -> None:
    room = TokenCapacity(LIMIT, metrics=NoMetrics())
    first, *waiting = await visitors(room, LIMIT, *[30] * 1000)
    first.may_go.set()
    await settled()
    assert inside(waiting) == [True] * 3 + [False] * 997
    assert room.num_tokens_waiting == 30 * 997


async def test_one_that_is_let_in_and_leaves_in_that_moment_hands_its_room_on() -> None:
    room = TokenCapacity(LIMIT, metrics=NoMetrics())
    first, leaver, last = await visitors(room, LIMIT, LIMIT, LIMIT)
    first.may_go.set()
    while room.num_tokens_waiting > LIMIT:  # noqa: ASYNC110 - until the leaver has its room, and not yet run
        await asyncio.sleep(0)
    leaver.visit.cancel()
    await settled()
    assert (leaver.entered.is_set(), last.entered.is_set()) == (False, True)
    assert room.in_flight == LIMIT


STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "go", "cancel"]), st.integers(1, 120), st.booleans()), max_size=60
)


@given(steps=STEPS)
def test_whatever_they_do_the_room_is_kept_in_order_and_is_empty_at_the_end(
    steps: list[tuple[str, int, bool]],
) -> None:
    async def run() -> None:
        room, everybody = TokenCapacity(LIMIT, metrics=NoMetrics()), list[Visitor]()
        for act, number, is_settled in steps:
            present = [one for one in everybody if not one.visit.done()]
            if act == "come":
                everybody.append(Visitor(room, number))
            elif present and act == "go":
                present[number % len(present)].may_go.set()
            elif present:
                present[number % len(present)].visit.cancel()
            if is_settled:
                await settled(len(everybody))
                staying = [one for one in everybody if not one.visit.done()]
                held = [one.num_tokens for one in staying if one.entered.is_set()]
                assert room.in_flight == sum(held)
                assert room.in_flight <= LIMIT or len(held) == 1
                assert inside(staying) == sorted(inside(staying), reverse=True), "nobody overtakes"
        for one in everybody:
            one.may_go.set()
        await asyncio.gather(*(one.visit for one in everybody), return_exceptions=True)
        assert (room.in_flight, room.num_tokens_waiting) == (0, 0)

    asyncio.run(run())
