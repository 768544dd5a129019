"""Samples of a model that thinks keep their thoughts, so that judging them anew says the same."""

import asyncio

import pytest

from drsft.evaluate.samples import SAMPLE_SCHEMA, Judged, samples_to_table
from drsft.evaluate.sampling import rejudge_shard
from drsft.records import Completion, FinishReason, Outcome, Problem, ThoughtPart, Verdict
from drsft.verify.pool import VerifierPool

PROBLEM = Problem(problem_id="p", question="3 + 4?", demonstration="", reference="7")
OPEN, CLOSED = (ThoughtPart(text="\\boxed{7}", num_tokens=2, is_closed=closed) for closed in (False, True))


def judged(text: str, thought: ThoughtPart | None, finish_reason: FinishReason) -> Judged:
    completion = Completion(
        token_ids=(1, 2, 3),
        text=text,
        behaviour_logprobs_T=None,
        finish_reason=finish_reason,
        thought=thought,
    )
    return Judged(
        problem_id="p",
        sample_index=0,
        seed=1,
        completion=completion,
        verdict=Verdict(outcome=Outcome.UNJUDGED, reason="an earlier version"),
        answer_group=None,
    )


@pytest.mark.parametrize(
    ("text", "thought", "finish_reason", "outcome"),
    [
        ("", OPEN, FinishReason.STOP, Outcome.NO_ANSWER),
        ("", OPEN, FinishReason.LENGTH, Outcome.TRUNCATED),
        ("It is 5.", CLOSED, FinishReason.STOP, Outcome.WRONG),
        ("It is 7.", CLOSED, FinishReason.STOP, Outcome.CORRECT),
    ],
)
def test_the_answer_alone_is_judged_anew(
    text: str, thought: ThoughtPart, finish_reason: FinishReason, outcome: Outcome
) -> None:
    samples = samples_to_table([judged(text, thought, finish_reason)])

    async def anew() -> list[dict[str, str]]:
        async with VerifierPool(num_workers=1) as verifier:
            return list((await rejudge_shard([PROBLEM], samples, verifier)).to_pylist())

    (row,) = asyncio.run(anew())
    assert row["outcome"] == outcome
    assert (row["reason"] == "unclosed thought") == (outcome is Outcome.NO_ANSWER)


def test_samples_without_thoughts_have_the_columns_that_they_always_had() -> None:
    assert samples_to_table([judged("7", None, FinishReason.STOP)]).schema == SAMPLE_SCHEMA
