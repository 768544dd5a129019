"""Which accepted samples are kept: every selection against a slow oracle, in `choose` and in the cascade.

The selection "closest" needs a scorer and has tests of its own.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from drsft.config import Selection
from drsft.policy.fake import FakePolicy, text_completion
from drsft.records import Attempt, Completion, Outcome, Phase, Record, Rollout, Verdict
from drsft.rewrite.cascade import rewrite_one
from drsft.rewrite.selection import choose
from tests.rewrite.test_cascade import PROBLEM, TextVerifier, recipe

SELECTIONS: tuple[Selection, ...] = ("random", "first", "shortest", "most_likely", "closest")
IN_CASCADE: tuple[Selection, ...] = ("random", "first", "shortest", "most_likely")
RUN_SEED = 0  # of recipe()
NUM_SAMPLES = 8


def drawn(sample_index: int, problem_id: str) -> int:
    """The number that puts the samples of a problem in random order, from the definition of its seed."""
    name = f"{RUN_SEED}/{problem_id}/choose/{sample_index}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 33


def preference(how: Selection, attempt: Attempt, problem_id: str) -> float:
    """The lower, the sooner it is kept; the lower sample index wins a tie."""
    completion, index = attempt.rollout.completion, attempt.rollout.sample_index
    match how:
        case "random":
            return drawn(index, problem_id)
        case "first":
            return index
        case "shortest":
            return len(completion.token_ids)
        case "most_likely":
            logprobs_T = completion.behaviour_logprobs_T
            return float("inf") if logprobs_T is None else -fmean(logprobs_T)
        case "closest":
            return float("inf") if attempt.mean_phi is None else abs(attempt.mean_phi)


def chosen_slowly(
    accepted: Sequence[Attempt], how: Selection, num_wanted: int, problem_id: str
) -> list[Attempt]:
    """Takes the best of what is left, with a completion that was not taken yet, again and again."""
    left, taken = list(accepted), list[Attempt]()
    while left and len(taken) < num_wanted:
        best = min(left, key=lambda one: (preference(how, one, problem_id), one.rollout.sample_index))
        taken.append(best)
        left = [one for one in left if one.rollout.completion.token_ids != best.rollout.completion.token_ids]
    return taken


def some_attempts(draw: random.Random) -> list[Attempt]:
    """Accepted ones, with equal completions, equal scores and unknown ones among them."""
    attempts = []
    for index in range(draw.randrange(1, 12)):
        completion = text_completion("right" + "!" * draw.randrange(4) + draw.choice("ab"))
        logprobs_T = tuple(-draw.randrange(1, 5) / 4 for _ in completion.token_ids)
        known = replace(completion, behaviour_logprobs_T=draw.choice((logprobs_T, logprobs_T, None)))
        rollout = Rollout(phase=Phase.GUIDED, sample_index=index, seed=0, prompt_hash="", completion=known)
        attempts.append(
            Attempt(
                rollout=rollout,
                verdict=Verdict(outcome=Outcome.CORRECT, reason="test"),
                mean_phi=draw.choice((-0.5, -0.25, 0.0, 0.25, None)),
            )
        )
    return attempts


@pytest.mark.parametrize("how", SELECTIONS)
@pytest.mark.parametrize("num_wanted", [1, 2, 5])
def test_a_choice_is_the_oracles_in_whatever_order_samples_finished(how: Selection, num_wanted: int) -> None:
    draw = random.Random(0)
    for number in range(200):
        attempts, problem_id = some_attempts(draw), f"p{number}"
        if how in ("most_likely", "closest"):  # equal completions have equal scores: one model gave them
            attempts = with_equal_scores(attempts)
        expected = chosen_slowly(attempts, how, num_wanted, problem_id)
        shuffled = draw.sample(attempts, len(attempts))
        assert choose(shuffled, how, num_wanted, problem_id=problem_id, run_seed=RUN_SEED) == expected


def with_equal_scores(attempts: Sequence[Attempt]) -> list[Attempt]:
    first: dict[tuple[int, ...], Attempt] = {}
    for one in attempts:
        first.setdefault(one.rollout.completion.token_ids, one)
    found = []
    for one in attempts:
        like = first[one.rollout.completion.token_ids]
        rollout = replace(one.rollout, completion=like.rollout.completion)
        found.append(replace(one, rollout=rollout, mean_phi=like.mean_phi))
    return found


def varied(prompt_ids: Sequence[int], seed: int) -> Completion:
    """Right ones of several lengths, each with log-probs of its own, and some wrong ones."""
    draw = random.Random(seed)
    text = draw.choice(("right", "right", "wrong")) + f" {seed}" + "!" * draw.randrange(9)
    completion = text_completion(text)
    return replace(completion, behaviour_logprobs_T=tuple(-draw.random() for _ in completion.token_ids))


def rewritten(how: Selection, problem_id: str) -> Record:
    wide = {"num_samples": NUM_SAMPLES, "wave_size": NUM_SAMPLES, "max_tokens": 64}
    problem = replace(PROBLEM, problem_id=problem_id)
    one = recipe(self_align=wide, selection=how)
    return asyncio.run(rewrite_one(problem, FakePolicy(varied), TextVerifier(), one))


@pytest.mark.parametrize("how", IN_CASCADE)
def test_the_cascade_keeps_what_the_selections_name_says(how: Selection) -> None:
    kept_at: Counter[int] = Counter()
    for number in range(60):
        record = rewritten(how, f"p{number}")
        accepted = [attempt for attempt in record.attempts if attempt.is_accepted]
        if not accepted:
            continue
        (best,) = chosen_slowly(accepted, how, 1, f"p{number}")
        assert record.completion_ids == best.rollout.completion.token_ids
        assert record.behaviour_logprobs_T == best.rollout.completion.behaviour_logprobs_T
        kept_at[accepted.index(best)] += 1
    assert kept_at.total() > 50
    assert (len(kept_at) == 1) == (how == "first"), "other selections must have passed the first one by"
