"""A listener to the cascade gets everything that the record holds, in the order in which it happened."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.protocol import OnTokens
from drsft.records import Attempt, Completion, Phase, Record, Rejection, RejectionKind, Sampling
from drsft.rewrite.budget import ProblemBudget
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.sampling import sample_in_waves
from tests.rewrite import test_early_stop as early_stop
from tests.rewrite.test_cascade import PLAIN, PROBLEM, FakeTeachers, TextVerifier, recipe
from tests.rewrite.test_hinted import HINTED, FakeDecoder, beside_recipe, hinted_recipe

Sample = tuple[Phase, int]


@dataclass
class Heard:
    """Writes down every event as its name and what it is about."""

    wants_tokens: bool = True
    events: list[tuple[str, Any]] = field(default_factory=list)
    token_ids: dict[Sample, list[int]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def phase_begun(self, phase: Phase) -> None:
        self.events.append(("phase", phase))

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        self.events.append(("begun", (phase, sample_index)))

    def tokens_sampled(self, phase: Phase, sample_index: int, token_ids: Sequence[int]) -> None:
        self.events.append(("tokens", (phase, sample_index)))
        self.token_ids.setdefault((phase, sample_index), []).extend(token_ids)

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        self.events.append(("ended", (phase, sample_index)))

    def attempt_judged(self, attempt: Attempt) -> None:
        self.events.append(("judged", identity(attempt)))
        self.attempts.append(attempt)

    def record_made(self, record: Record) -> None:
        self.events.append(("record", record.problem.problem_id))
        self.records.append(record)

    def of(self, sample: Sample) -> list[str]:
        """What happened to one sample, in order."""
        return [name for name, about in self.events if about == sample]


def identity(attempt: Attempt) -> Sample:
    return attempt.rollout.phase, attempt.rollout.sample_index


def rewritten(one: Recipe, heard: Heard, own: str = "wrong", guided: str = "wrong") -> Record:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        if tuple(prompt_ids[:2]) == HINTED:
            return text_completion("# Analyze\nso\n# CoT\n")
        return text_completion(own if tuple(prompt_ids) == PLAIN else guided)

    return asyncio.run(rewrite_one(PROBLEM, FakePolicy(answer), TextVerifier(), one, events=heard))


def analysing() -> Recipe:
    return hinted_recipe(FakeDecoder("right"), "guided_then_hinted", analysis={"max_tokens": 32})


CASES = {
    "solved alone": (recipe(), "right", "wrong"),
    "solved with the guide": (recipe(), "wrong", "right"),
    "never solved": (recipe(), "wrong", "wrong"),
    "rejected": (
        recipe(),
        "right " + "around and around we go " * 8,
        "right, as the reference solution shows",
    ),
    "nothing is sampled": (recipe(self_align={"num_samples": 0}, guided={"num_samples": 0}), "", ""),
    "the budget is spent": (recipe(tokens_per_problem=1), "wrong", "right"),
    "analysed and hinted": (analysing(), "wrong", "wrong"),
    "hinted beside": (beside_recipe(FakeDecoder("right")), "wrong", "right"),
    "taught": (recipe(FakeTeachers("direct", "right, big")), "wrong", "wrong"),
    "guided by a teacher": (recipe(FakeTeachers("guide", "right, big")), "wrong", "wrong"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_judged_attempts_and_the_record_are_those_that_come_back(case: str) -> None:
    one, own, guided = CASES[case]
    heard = Heard()
    record = rewritten(one, heard, own, guided)
    assert heard.attempts == list(record.attempts)
    assert heard.records == [record]
    assert heard.events[-1][0] == "record"
    phases = [about for name, about in heard.events if name == "phase"]
    assert phases == list(dict.fromkeys(attempt.rollout.phase for attempt in record.attempts))


@pytest.mark.parametrize("case", CASES)
def test_a_phase_begins_before_its_samples_and_the_events_of_each_sample_are_in_order(case: str) -> None:
    one, own, guided = CASES[case]
    heard = Heard()
    record = rewritten(one, heard, own, guided)
    for attempt in record.attempts:
        sample = identity(attempt)
        steps = heard.of(sample)
        assert steps in (["begun", "tokens", "ended", "judged"], ["begun", "ended", "judged"])
        assert heard.events.index(("phase", sample[0])) < heard.events.index(("begun", sample))
        if "tokens" in steps:
            assert tuple(heard.token_ids[sample]) == attempt.rollout.completion.token_ids
    streamed = {
        identity(one) for one in record.attempts if one.rollout.phase in (Phase.SELF_ALIGN, Phase.GUIDED)
    }
    assert streamed <= heard.token_ids.keys()


@pytest.mark.parametrize("case", CASES)
def test_listening_changes_no_record(case: str) -> None:
    one, own, guided = CASES[case]
    told = rewritten(one, Heard(), own, guided)
    assert rewritten(one, Heard(wants_tokens=False), own, guided) == told


def test_an_attempt_says_why_it_is_rejected() -> None:
    one, own, guided = CASES["rejected"]
    heard = Heard()
    rewritten(one, heard, own, guided)
    found = {attempt.rollout.phase: attempt.rejection for attempt in heard.attempts}
    assert found == {
        Phase.SELF_ALIGN: Rejection(RejectionKind.LOOPS),
        Phase.GUIDED: Rejection(RejectionKind.MENTIONS_GUIDE, "the reference solution"),
    }


@pytest.mark.parametrize("wants_tokens", [True, False])
def test_a_policy_is_asked_for_tokens_where_somebody_wants_them(wants_tokens: bool) -> None:
    asked: list[bool] = []

    class Asked(FakePolicy):
        async def generate(
            self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
        ) -> list[Completion]:
            asked.append(on_tokens is not None)
            return await super().generate(prompt_ids, sampling, on_tokens=on_tokens)

    policy, heard = Asked(lambda prompt_ids, seed: text_completion("wrong")), Heard(wants_tokens)
    asyncio.run(rewrite_one(PROBLEM, policy, TextVerifier(), recipe(), events=heard))
    assert set(asked) == {wants_tokens}
    assert bool(heard.token_ids) is wants_tokens


def test_a_stopped_sample_ends_without_a_verdict() -> None:
    num_stopped = 0
    for seed in range(20):
        heard, plan = Heard(), early_stop.plan("first", 1, stop_beaten=True)
        policy = early_stop.ShuffledPolicy(early_stop.some_texts(seed), random.Random(seed))
        budget = ProblemBudget(None)
        found = asyncio.run(sample_in_waves(plan, policy, early_stop.TextVerifier(), budget, events=heard))
        samples = {about for name, about in heard.events if name == "begun"}
        assert all(
            heard.of(sample) in (["begun", "ended"], ["begun", "ended", "judged"]) for sample in samples
        )
        stopped = [sample for sample in samples if "judged" not in heard.of(sample)]
        assert len(stopped) == policy.num_stopped
        assert not set(stopped) & set(map(identity, found))
        num_stopped += len(stopped)
    assert num_stopped > 0
