"""The virtual clock and the simulated cluster, against cases that can be worked out by hand."""

import asyncio
import random
from dataclasses import replace

import pytest

from drsft.records import Completion, FinishReason
from tests.studies.simulated_cluster import ClusterSettings, SimulatedEngine
from tests.studies.simulation import seconds_per_token, simulate
from tests.support.virtual_time import run_in_virtual_time

SMALL = ClusterSettings(
    num_engines=3,
    seats=64,
    seconds_per_token=seconds_per_token(10.0),
    seconds_between_deaths=40.0,
    restart_s=30,
)


def completion(num_tokens: int) -> Completion:
    return Completion(
        token_ids=tuple(range(num_tokens)),
        text="",
        behaviour_logprobs_T=None,
        finish_reason=FinishReason.STOP,
    )


def engine(**changes: float) -> SimulatedEngine:
    plain = ClusterSettings(seats=2, seconds_per_token=1.0, slow_share=0.0)
    return SimulatedEngine(replace(plain, **changes), random.Random(0))


def test_hours_pass_at_once_and_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        seen = []

        async def note(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, round(asyncio.get_running_loop().time(), 6)))

        await asyncio.gather(note("late", 7200), note("early", 60), note("between", 61.5))
        return seen

    assert run_in_virtual_time(main()) == [("early", 60), ("between", 61.5), ("late", 7200)]


def test_waiting_for_what_never_comes_is_an_error_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        run_in_virtual_time(main())


def test_samples_wait_for_seats_in_the_order_in_which_they_came() -> None:
    async def main() -> list[float]:
        one = engine()

        async def served(*num_tokens: int) -> float:
            await one.serve([completion(n) for n in num_tokens])
            return asyncio.get_running_loop().time()

        return await asyncio.gather(served(10, 4), served(3), served(20))

    # Two seats: 10 and 4 sit down; 3 from 4 to 7; 20 from 7 to 27.
    assert run_in_virtual_time(main()) == pytest.approx([10, 7, 27])


def test_a_cancelled_request_frees_its_seats_and_counts_what_it_had_sampled() -> None:
    async def main() -> tuple[float, float]:
        one = engine()
        first = asyncio.create_task(one.serve([completion(100), completion(2)]))
        second = asyncio.create_task(one.serve([completion(5), completion(5)]))
        await asyncio.sleep(4)  # of `first` 4 and 2 tokens, of `second` one sample has 2
        first.cancel()
        await second
        return asyncio.get_running_loop().time(), one.num_tokens

    assert run_in_virtual_time(main()) == pytest.approx((9, 4 + 2 + 10))


def test_slow_requests_take_longer_by_the_factor() -> None:
    async def main() -> float:
        await engine(slow_share=1.0, slow_factor=7.0).serve([completion(3)])
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(21)


def test_every_shard_is_committed_although_engines_die_and_the_run_repeats_itself() -> None:
    first, again = (simulate("", SMALL, num_problems=700, shard_size=16) for _ in range(2))
    assert first.num_deaths > 0
    assert first.num_lost_shards > 0
    assert 0 < first.lost_share < 1
    assert replace(first, computed_s=0) == replace(again, computed_s=0)


def test_without_deaths_nothing_is_lost_and_the_work_fits_the_seats() -> None:
    calm = replace(SMALL, seconds_between_deaths=None, slow_share=0.0)
    one = simulate("", calm, num_problems=700, shard_size=16)
    assert one.num_lost_shards == 0
    assert one.lost_share == pytest.approx(0, abs=1e-9)
    assert one.hours * 3600 * one.utilisation > 0
    seat_s = one.num_tokens * calm.seconds_per_token
    assert seat_s == pytest.approx(one.utilisation * one.hours * 3600 * 3 * 64, rel=0.1)
