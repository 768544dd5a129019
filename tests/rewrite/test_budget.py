"""A shard's tokens: what waves under way hold, who waits for it, and whose the slots are meanwhile."""

import asyncio
import random

import pytest

from drsft.rewrite.budget import ProblemBudget, ProblemSlot, TokenBudget
from tests.support.virtual_time import run_in_virtual_time


async def test_a_sample_that_has_ended_holds_no_more_than_it_took() -> None:
    shard = TokenBudget(500)
    first, second = ProblemBudget(None, shard), ProblemBudget(None, shard)
    began = asyncio.Event()

    async def other() -> None:
        async with second.reserve(2, max_tokens=100):
            began.set()

    async with first.reserve(4, max_tokens=100):
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0)
        assert not began.is_set()
        first.spend(50)  # 450 are left, and 300 of them held
        await asyncio.sleep(0)
        assert not shard.can_reserve(200)
        first.spend(50)  # of 400 left 200 are held
        for _ in range(3):
            await asyncio.sleep(0)
        assert began.is_set()
    await waiting


async def test_what_a_failed_wave_spends_after_its_end_frees_nothing_of_others() -> None:
    shard = TokenBudget(300)
    failed, other = ProblemBudget(None, shard), ProblemBudget(None, shard)
    with pytest.raises(KeyError):
        async with failed.reserve(1, max_tokens=100):
            raise KeyError
    async with other.reserve(2, max_tokens=100):
        failed.spend(10)
        assert not shard.can_reserve(100)
        assert shard.can_reserve(90)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_cancelled_no_limit_is_passed_by_a_wave_and_every_place_comes_back(seed: int) -> None:
    draws, max_tokens, limit, num_slots = random.Random(seed), 100, 20_000, 6
    largest_wave = 4 * max_tokens
    shards, slots = [TokenBudget(limit) for _ in range(3)], asyncio.Semaphore(num_slots)
    num_under_way = most_under_way = 0

    async def sample(budget: ProblemBudget) -> None:
        await asyncio.sleep(draws.expovariate(1))
        budget.spend(draws.randint(1, max_tokens))

    async def wave(budget: ProblemBudget) -> bool:
        nonlocal num_under_way, most_under_way
        num_samples = draws.randint(1, 4)
        async with budget.reserve(num_samples, max_tokens=max_tokens) as may_sample:
            num_under_way += 1
            most_under_way = max(most_under_way, num_under_way)
            try:
                if may_sample:
                    async with asyncio.TaskGroup() as samples:
                        for _ in range(num_samples):
                            samples.create_task(sample(budget))
            finally:
                num_under_way -= 1
            return may_sample

    async def problem(shard: TokenBudget) -> None:
        async with ProblemSlot(slots) as slot:
            budget = ProblemBudget(None, shard, slot)
            while await wave(budget):
                pass

    async def main() -> None:
        tasks = [asyncio.create_task(problem(shard)) for shard in shards for _ in range(20)]
        for task in draws.sample(tasks, 20):
            await asyncio.sleep(draws.expovariate(1))
            task.cancel()
        await asyncio.wait(tasks)

    run_in_virtual_time(main())
    assert most_under_way == num_slots
    for shard in shards:
        assert limit <= shard.num_spent < limit + largest_wave
        assert shard.can_reserve(largest_wave)
    for _ in range(num_slots):
        assert not slots.locked()
        asyncio.run(slots.acquire())
    assert slots.locked()
