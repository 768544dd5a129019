"""The cascade's logic with a policy that answers from a function and a verifier that reads the text."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from drsft.config import Rewrite, SamplingStage
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter
from drsft.records import Completion, Outcome, Problem, Record, Source, Verdict
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.tables import records_from_table, records_to_table

PROBLEM = Problem(problem_id="p1", question="1+1?", demonstration="two", reference="2")
PLAIN, GUIDED = (1, 2, 3), (1, 2, 3, 4)


class TextVerifier:
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        if is_truncated:
            return Verdict(outcome=Outcome.TRUNCATED, reason="cut off")
        if text == "crash":
            return Verdict(outcome=Outcome.UNJUDGED, reason="timeout")
        is_right = text.startswith("right")
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="test", answer=text)


def recipe(**stages: SamplingStage) -> Recipe:
    prompter = SimpleNamespace(
        plain=lambda problem: PLAIN,
        guided=lambda problem: GUIDED,
        completion=lambda text: (*map(ord, text), 0),
    )
    stage = SamplingStage(num_samples=4, wave_size=2, max_tokens=64)
    rewrite = Rewrite(**{"self_align": stage, "guided": stage, **stages})
    return Recipe(rewrite=rewrite, prompter=cast(Prompter, prompter), run_seed=0, max_model_len=100)


def answering(own: str, guided: str) -> FakePolicy:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion(own if tuple(prompt_ids) == PLAIN else guided)

    return FakePolicy(answer)


def rewritten(policy: FakePolicy, one: Recipe | None = None) -> Record:
    return asyncio.run(rewrite_one(PROBLEM, policy, TextVerifier(), one or recipe()))


def test_a_right_sample_of_its_own_ends_the_cascade_after_its_wave() -> None:
    policy = answering("right", "right")
    record = rewritten(policy)
    assert record.source is Source.OWN
    assert policy.num_requests == 1
    assert len(record.attempts) == 2
    assert record.text == "right"


def test_guided_resolving_comes_after_every_wave_of_self_alignment_failed() -> None:
    record = rewritten(answering("wrong", "right, guided"))
    assert record.source is Source.REWRITTEN
    assert [a.rollout.stage for a in record.attempts] == ["self_align"] * 4 + ["guided"] * 2
    assert record.prompt_ids == PLAIN, "trained on the plain prompt, never on the guided one"


def test_what_always_fails_keeps_the_experts_text_without_behaviour_logprobs() -> None:
    record = rewritten(answering("wrong", "wrong"))
    assert record.source is Source.EXPERT
    assert record.text == "two"
    assert record.completion_ids == record.expert_completion_ids == (*map(ord, "two"), 0)
    assert record.behaviour_logprobs_T is None
    assert len(record.attempts) == 8


@pytest.mark.parametrize("text", ["crash", "wrong"])
def test_unjudged_and_wrong_are_never_trained_on(text: str) -> None:
    assert rewritten(answering(text, text)).source is Source.EXPERT


def test_truncated_is_never_trained_on_even_when_it_reads_right() -> None:
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("right", finish_reason="length"))
    record = rewritten(policy)
    assert record.source is Source.EXPERT
    assert {a.verdict.outcome for a in record.attempts} == {Outcome.TRUNCATED}


def test_a_stage_with_no_samples_is_left_out() -> None:
    none = SamplingStage(num_samples=0, max_tokens=64)
    assert rewritten(answering("right", "right"), recipe(self_align=none)).source is Source.REWRITTEN
    assert rewritten(answering("wrong", "right"), recipe(guided=none)).source is Source.EXPERT


def test_seeds_are_stable_and_never_shared() -> None:
    first, second = (rewritten(answering("wrong", "wrong")) for _ in range(2))
    seeds = [attempt.rollout.seed for attempt in first.attempts]
    assert seeds == [attempt.rollout.seed for attempt in second.attempts]
    assert len(set(seeds)) == len(seeds)


def test_the_choice_among_accepted_depends_on_the_problem_and_nothing_else() -> None:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion(f"right {seed}")

    wide = SamplingStage(num_samples=8, wave_size=8, max_tokens=64)
    chosen = {rewritten(FakePolicy(answer), recipe(self_align=wide)).text for _ in range(3)}
    assert len(chosen) == 1


def test_a_cancelled_problem_cancels_its_request() -> None:
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("right"), latency_s=60)

    async def cancel() -> None:
        task = asyncio.create_task(rewrite_one(PROBLEM, policy, TextVerifier(), recipe()))
        await asyncio.wait([task], timeout=0.05)  # the request is under way after one turn of the loop
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert policy.num_cancelled == 1


def test_records_survive_the_table_and_their_order_does_not_matter() -> None:
    records = [
        rewritten(answering(own, guided)) for own, guided in (("right", ""), ("x", "right"), ("x", "x"))
    ]
    table = records_to_table(records)
    back = records_from_table(table)
    assert {record.source for record in back} == set(Source)
    loaded = {record.source: record for record in back}
    for record in records:
        assert loaded[record.source] == record
