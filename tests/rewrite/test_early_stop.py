"""Stopping samples that can no longer be kept: what is kept and recorded does not depend on their timing."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from drsft.config import Rewrite, Selection
from drsft.policy.fake import text_completion
from drsft.policy.protocol import Draw, OnTokens
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Sampling,
    Verdict,
    stable_seed,
)
from drsft.rewrite.budget import ProblemBudget, TokenBudget
from drsft.rewrite.judging import AcceptanceRules
from drsft.rewrite.sampling import PhasePlan, sample_in_waves
from drsft.rewrite.selection import choose, rank_of

PROBLEM = Problem(problem_id="p1", question="1+1?", demonstration="two", reference="2")
NUM_SAMPLES, WAVE_SIZE = 12, 6


class TextVerifier:
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        return Verdict(outcome=Outcome.CORRECT if "right" in text else Outcome.WRONG, reason="test")


class ShuffledPolicy:
    """Samples of given texts that finish one at a time in a given order, whatever their length."""

    def __init__(self, texts: dict[int, str], order: random.Random) -> None:
        self.texts, self.order = texts, order
        self.num_stopped = 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        return list(await asyncio.gather(*(draw.completion for draw in self.draw(prompt_ids, sampling))))

    def draw(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Draw]:
        futures = [asyncio.get_running_loop().create_future() for _ in range(sampling.num_samples)]
        todo = [(future, self.texts[sampling.seed + i]) for i, future in enumerate(futures)]
        self.order.shuffle(todo)
        self.finishing = asyncio.create_task(self._finish(todo))
        return [Draw(future, lambda future=future: self._stop(future)) for future in futures]  # type: ignore[misc]

    async def _finish(self, todo: list[tuple[asyncio.Future[Completion], str]]) -> None:
        for future, text in todo:
            if not future.done():
                future.set_result(text_completion(text))
            for _ in range(self.order.randrange(12)):  # turns of the loop, for verdicts to come in or not
                await asyncio.sleep(0)

    def _stop(self, future: asyncio.Future[Completion]) -> None:
        if not future.done():
            self.num_stopped += 1
            future.set_result(replace(text_completion("ri"), finish_reason=FinishReason.STOPPED))


def plan(how: Selection, num_accepted: int, *, stop_beaten: bool) -> PhasePlan:
    stage = {"num_samples": NUM_SAMPLES, "wave_size": WAVE_SIZE, "max_tokens": 64}
    rewrite = Rewrite.model_validate({"self_align": stage})
    return PhasePlan(
        phase=Phase.SELF_ALIGN,
        problem=PROBLEM,
        prompt_ids=(1, 2),
        sampling=rewrite.self_align,
        num_accepted=num_accepted,
        run_seed=0,
        rules=AcceptanceRules.of(rewrite, Phase.SELF_ALIGN),
        selection=how,
        stop_beaten=stop_beaten,
    )


def sampled(policy: ShuffledPolicy, one: PhasePlan, budget: TokenBudget | None = None) -> list[Attempt]:
    return asyncio.run(sample_in_waves(one, policy, TextVerifier(), ProblemBudget(None, budget)))


def kept(attempts: list[Attempt], one: PhasePlan) -> list[Attempt]:
    accepted = [attempt for attempt in attempts if attempt.is_accepted]
    return choose(accepted, one.selection, one.num_accepted, problem_id="p1", run_seed=0)


def some_texts(seed: int) -> dict[int, str]:
    """By the seed of the sample. Several right ones are alike, so that "different" is put to the test."""
    draw = random.Random(seed)
    texts = ("wrong", "wrong ", "right", "right ", "right, I think")
    starts = [stable_seed(0, "p1", "self_align", str(first)) for first in range(0, NUM_SAMPLES, WAVE_SIZE)]
    return {start + i: draw.choice(texts) for start in starts for i in range(WAVE_SIZE)}


@pytest.mark.parametrize("how", ["random", "first", "shortest"])
@pytest.mark.parametrize("num_accepted", [1, 2, 3])
def test_what_is_kept_and_recorded_does_not_depend_on_which_sample_finishes_first(
    how: Selection, num_accepted: int
) -> None:
    num_stopped = 0
    for seed in range(40):
        texts = some_texts(seed)
        one, whole = (plan(how, num_accepted, stop_beaten=stops) for stops in (True, False))
        policies = [ShuffledPolicy(texts, random.Random(order)) for order in range(5)]
        runs = [sampled(policy, one) for policy in policies]
        assert all(run == runs[0] for run in runs)
        everything = sampled(ShuffledPolicy(texts, random.Random(9)), whole)
        assert kept(runs[0], one) == kept(everything, whole)
        num_stopped += sum(policy.num_stopped for policy in policies)
    assert (num_stopped > 0) == (how != "shortest"), "the shortest is known when all are finished"


@pytest.mark.parametrize("how", ["random", "first"])
def test_exactly_the_samples_up_to_the_last_one_kept_are_recorded(how: Selection) -> None:
    for seed in range(40):
        one = plan(how, 2, stop_beaten=True)
        everything = sampled(
            ShuffledPolicy(some_texts(seed), random.Random(0)), replace(one, stop_beaten=False)
        )
        chosen = kept(everything, one)
        ranks = {
            index: rank_of(how, index, problem_id="p1", run_seed=0)  # type: ignore[arg-type]
            for index in range(NUM_SAMPLES)
        }
        last_wave = range(len(everything) - WAVE_SIZE, len(everything))
        limit = max(ranks[one.rollout.sample_index] for one in chosen) if len(chosen) == 2 else (2**31, 0)
        needed = {i for i in range(len(everything)) if i not in last_wave or ranks[i] <= limit}
        recorded = sampled(ShuffledPolicy(some_texts(seed), random.Random(1)), one)
        assert {attempt.rollout.sample_index for attempt in recorded} == needed


def test_stopped_tokens_are_spent_but_not_recorded() -> None:
    seeds = some_texts(0)
    one, budget = plan("first", 1, stop_beaten=True), TokenBudget(None)
    policy = ShuffledPolicy(dict.fromkeys(seeds, "right"), random.Random(0))
    attempts = sampled(policy, one, budget)
    assert [attempt.rollout.sample_index for attempt in attempts] == [0]
    finished = WAVE_SIZE - policy.num_stopped
    assert policy.num_stopped > 0
    assert budget.num_spent == finished * len("right\x00") + policy.num_stopped * len("ri\x00")


def test_a_random_choice_favours_no_sample() -> None:
    """With every sample right, the first few of the order are kept as often as the last few."""
    counts = [0] * WAVE_SIZE
    for number in range(3000):
        order = [rank_of("random", i, problem_id=f"p{number}", run_seed=0) for i in range(WAVE_SIZE)]
        counts[order.index(min(order))] += 1
    expected = 3000 / WAVE_SIZE
    assert sum((count - expected) ** 2 / expected for count in counts) < 20.5  # chi-square, 5 df: p = 0.001
