"""The cascade's logic with a policy that answers from a function and a verifier that reads the text."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drsft.config import Rewrite, Teacher
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter
from drsft.policy.teacher import TeacherText
from drsft.records import (
    Completion,
    FinishReason,
    Outcome,
    Problem,
    Record,
    Rejection,
    RejectionKind,
    Source,
    StepReport,
    Verdict,
)
from drsft.rewrite.budget import TokenBudget
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.contradiction import contradicts
from drsft.rewrite.shard import count_records
from drsft.run.tables import records_from_table, records_to_table
from drsft.verify.pool import VerifierPool

PROBLEM = Problem(problem_id="p1", question="1+1?", demonstration="two", reference="2")
PLAIN, GUIDED = (1, 2, 3), (4, 5)


class TextVerifier:
    """Reads what a text begins with; "unsound" anywhere fails the step check."""

    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        if is_truncated:
            return Verdict(outcome=Outcome.TRUNCATED, reason="cut off")
        if problem.kind == "steps":
            return Verdict(outcome=Outcome.WRONG if "unsound" in text else Outcome.CORRECT, reason="steps")
        if text == "crash":
            return Verdict(outcome=Outcome.UNJUDGED, reason="timeout")
        is_right = text.startswith(("right", "two"))
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="test", answer=text)


def recipe(teachers: "FakeTeachers | None" = None, **changes: Any) -> Recipe:
    def guided(problem: Problem) -> tuple[int, ...]:
        return (*GUIDED, *map(ord, problem.demonstration))

    prompter = SimpleNamespace(
        plain=lambda problem: PLAIN,
        guided=guided,
        answered=lambda problem: (6, *map(ord, problem.demonstration)),
        rephrased=lambda problem: (7, *map(ord, problem.demonstration)),
        completion=lambda text: (*map(ord, text), 0),
        solution=lambda text: replace(text_completion(text), behaviour_logprobs_T=None),
        prompts=SimpleNamespace(system=None, plain="{question}"),
        turn=SimpleNamespace(thought=None),
    )
    stage = {"num_samples": 4, "wave_size": 2, "max_tokens": 64}
    # Whole waves, so that what is counted here does not depend on which sample stands first.
    defaults = {"self_align": stage, "guided": stage, "stop_beaten": False, "grounding": None}
    rewrite = Rewrite.model_validate({**defaults, **changes})
    return Recipe(
        rewrite=rewrite, prompter=cast(Prompter, prompter), run_seed=0, max_model_len=100, teachers=teachers
    )


class FakeTeachers:
    def __init__(self, use: str, *texts: str) -> None:
        self.teacher = Teacher(model="target", base_url="http://127.0.0.1:1/v1", use=use)  # type: ignore[arg-type]
        self.texts = texts

    def pick(self, problem: Problem, run_seed: int) -> Teacher:
        return self.teacher

    async def solve(
        self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
    ) -> list[TeacherText]:
        return [TeacherText(text=text, finish_reason=FinishReason.STOP, seed=seed) for text in self.texts]


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
    assert [a.rollout.phase for a in record.attempts] == ["self_align"] * 4 + ["guided"] * 2
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
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("right", finish_reason=FinishReason.LENGTH))
    record = rewritten(policy)
    assert record.source is Source.EXPERT
    assert {a.verdict.outcome for a in record.attempts} == {Outcome.TRUNCATED}


def test_a_stage_with_no_samples_is_left_out() -> None:
    none = {"num_samples": 0}
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

    wide = {"num_samples": 8, "wave_size": 8, "max_tokens": 64}
    chosen = {rewritten(FakePolicy(answer), recipe(self_align=wide)).text for _ in range(3)}
    assert len(chosen) == 1


def test_a_cancelled_problem_cancels_its_request() -> None:
    policy = FakePolicy(
        lambda prompt_ids, seed: text_completion("right"), serve=lambda completions: asyncio.sleep(60)
    )

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
    assert {record.source for record in back} == {Source.OWN, Source.REWRITTEN, Source.EXPERT}
    loaded = {record.source: record for record in back}
    for record in records:
        assert loaded[record.source] == record


def varied(prompt_ids: Sequence[int], seed: int) -> Completion:
    return text_completion(f"right {seed % 3}" + "!" * (seed % 7))


def test_as_many_different_solutions_are_kept_as_are_wanted() -> None:
    wide = {"num_samples": 12, "wave_size": 4, "max_tokens": 64}
    record = rewritten(FakePolicy(varied), recipe(self_align=wide, num_accepted=3))
    kept = [record.completion_ids, *(one.token_ids for one in record.further_completions)]
    assert len(set(kept)) == len(kept) == 3
    assert len(record.attempts) in (4, 8, 12), "whole waves, and none after the third solution"
    assert records_from_table(records_to_table([record])) == [record]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("right " + "around and around we go " * 8, "loops"),
        ("right \\boxed{2}, no \\boxed{3}", "several different boxed answers"),
        ("right \\boxed{right}, no \\boxed{3}", "several different boxed answers"),
    ],
)
def test_right_samples_that_teach_badly_are_refused_and_say_why(own: str, reason: str) -> None:
    record = rewritten(answering(own, "right"))
    assert record.source is Source.REWRITTEN
    assert {str(a.rejection) for a in record.attempts if a.rollout.phase == "self_align"} == {reason}


@pytest.mark.parametrize(
    ("reference", "text", "is_refused"),
    [
        ("1000", "First \\boxed{1000}, that is \\boxed{1{,}000}.", False),
        ("1/2", "So \\boxed{0.5}, or \\boxed{\\frac12}, or \\boxed{\\dfrac{1}{2}}.", False),
        ("5", "So \\boxed{5\\text{ cm}}. The answer is \\boxed{5}.", False),
        ("1, 2", "The roots are \\boxed{1} and \\boxed{2}.", False),
        ("5", "First I find \\boxed{4}. But no, it is \\boxed{5}.", True),
    ],
)
def test_boxes_contradict_each_other_by_what_they_mean(
    verifier: VerifierPool, reference: str, text: str, is_refused: bool
) -> None:
    problem = replace(PROBLEM, reference=reference)
    record = asyncio.run(rewrite_one(problem, answering(text, text), verifier, recipe()))
    own = [attempt for attempt in record.attempts if attempt.rollout.phase == "self_align"]
    assert {attempt.verdict.outcome for attempt in own} == {Outcome.CORRECT}
    rejection = Rejection(RejectionKind.SEVERAL_BOXES) if is_refused else None
    assert {attempt.rejection for attempt in own} == {rejection}


def test_a_guided_solution_that_mentions_its_guide_is_refused_but_an_unguided_one_is_not() -> None:
    text = "right, as the reference solution shows"
    assert rewritten(answering("wrong", text)).source is Source.EXPERT
    assert rewritten(answering(text, "wrong")).source is Source.OWN


def test_unsound_steps_are_recorded_and_refused_only_on_demand() -> None:
    stage = {"num_samples": 4, "wave_size": 2, "max_tokens": 64}
    lenient = rewritten(answering("wrong", "right but unsound"))
    assert lenient.source is Source.REWRITTEN
    assert lenient.attempts[-1].steps is not None
    assert lenient.attempts[-1].steps.outcome is Outcome.WRONG
    strict = rewritten(
        answering("wrong", "right but unsound"), recipe(guided={**stage, "require_steps": True})
    )
    assert strict.source is Source.EXPERT
    assert strict.attempts[-1].rejection == Rejection(RejectionKind.UNSOUND_STEPS)


@pytest.mark.parametrize("require_steps", [False, True])
def test_the_share_of_unsound_equations_counts_guided_solutions_whether_they_are_refused_or_not(
    require_steps: bool,
) -> None:
    texts = ("right but unsound", "right", "right but unsound, as the reference solution shows", "wrong")
    teachers = FakeTeachers("direct", "right but unsound, by a teacher")
    stage = {"num_samples": 4, "wave_size": 4, "max_tokens": 64, "require_steps": require_steps}

    def checks(*guided: str) -> tuple[int, int, int]:
        def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
            is_plain = tuple(prompt_ids) == PLAIN
            return text_completion("wrong" if is_plain else guided[seed % len(guided)])

        record = rewritten(FakePolicy(answer), recipe(teachers, guided=stage))
        found = count_records([record])
        return found.num_steps_read, found.num_steps_failed, found.num_contradicting

    assert checks(*texts) == (2, 1, 0)
    assert checks("wrong") == (0, 0, 0), "a teacher saw no guide"


def test_nothing_accepted_may_be_dropped_instead_of_kept_from_the_expert() -> None:
    record = rewritten(answering("wrong", "wrong"), recipe(fallback="drop"))
    assert record.source is Source.DROPPED
    assert record.completion_ids == ()
    assert record.expert_completion_ids


def test_a_demonstration_that_contradicts_the_reference_is_flagged_and_never_a_guide() -> None:
    contradicting = Problem(
        problem_id="p1", question="1+1?", demonstration="so it is \\boxed{3}", reference="2"
    )
    policy = answering("wrong", "right")
    record = asyncio.run(rewrite_one(contradicting, policy, TextVerifier(), recipe()))
    assert record.source is Source.EXPERT
    assert record.expert_verdict is not None
    assert record.expert_verdict.outcome is Outcome.WRONG
    assert {a.rollout.phase for a in record.attempts} == {"self_align"}


def test_prose_that_states_no_answer_is_no_contradiction() -> None:
    prose = Problem(problem_id="p1", question="1+1?", demonstration="3 minus 1, as one sees", reference="2")
    record = asyncio.run(rewrite_one(prose, answering("wrong", "right"), TextVerifier(), recipe()))
    assert record.expert_verdict is not None
    assert record.expert_verdict.outcome is Outcome.WRONG
    assert record.source is Source.REWRITTEN


@pytest.mark.parametrize(
    ("kind", "demonstration", "verdict", "is_contradiction"),
    [
        ("numeric", "so 12 cups are left after 3 days", "differs", False),  # a guess from the text's end
        ("numeric", "so \\boxed{3}", "differs", True),
        ("math+steps", "7 + 6 = 12, so \\boxed{12}", "right answer, but 1 of 1 equations fail", False),
        ("math+steps", "so \\boxed{3}", "differs", True),
        ("choice", "(B)", "choice", True),
        ("choice", "Venus is too small, so the answer is (B).", "choice", True),
        ("choice", "A. Mars is small. The second option is right.", "choice", False),
        ("exact", "We compare both and see that the first one wins.", "not equal", False),
        ("exact", "Lyon", "not equal", True),
        ("exact", "After all this the answer is: Lyon", "not equal", True),
        ("regex", "It comes after ten, as one sees.", "no match", False),
        ("code", "def f(): pass", "1 of 2 tests fail", True),
    ],
)
def test_only_another_answer_contradicts_the_reference(
    kind: str, demonstration: str, verdict: str, is_contradiction: bool
) -> None:
    problem = Problem(problem_id="p", question="?", demonstration=demonstration, reference="12", kind=kind)
    steps = StepReport.from_stored(verdict, "3")
    found = Verdict(outcome=Outcome.WRONG, reason=verdict, answer="3", steps=steps)
    assert contradicts(problem, found) is is_contradiction


def test_a_teacher_is_asked_last_and_verified_like_everybody() -> None:
    kept = rewritten(answering("wrong", "wrong"), recipe(FakeTeachers("direct", "wrong", "right, big")))
    assert kept.source is Source.TEACHER
    assert kept.text == "right, big"
    own = [one.rollout.completion.token_ids for one in kept.attempts if one.rollout.phase != "teacher"]
    assert kept.num_sampled_tokens == sum(map(len, own)), "a teacher's tokens are not the target's"
    assert kept.behaviour_logprobs_T is None
    assert kept.attempts[-1].rollout.policy == "target", "as it is called there"
    assert (
        rewritten(answering("wrong", "wrong"), recipe(FakeTeachers("direct", "wrong"))).source
        is Source.EXPERT
    )
    assert rewritten(answering("right", "x"), recipe(FakeTeachers("direct", "right"))).source is Source.OWN
    records = records_from_table(records_to_table([kept]))
    assert records == [kept]


def test_a_teachers_solution_may_guide_the_target() -> None:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        saw_teacher = bytes(prompt_ids[2:]).decode("latin-1") == "right, big"
        return text_completion("right, in its words" if saw_teacher else "wrong")

    record = rewritten(FakePolicy(answer), recipe(FakeTeachers("guide", "right, big")))
    assert record.source is Source.REWRITTEN
    assert [a.rollout.phase for a in record.attempts][-3:] == ["teacher", "teacher_guided", "teacher_guided"]


def test_no_wave_begins_past_a_token_limit() -> None:
    one_wave = len(rewritten(answering("wrong", "wrong"), recipe(tokens_per_problem=1)).attempts)
    assert one_wave == 2
    shard = TokenBudget(20)

    async def both() -> list[Record]:
        policy = answering("wrong", "wrong")
        return [await rewrite_one(PROBLEM, policy, TextVerifier(), recipe(), budget=shard) for _ in range(2)]

    first, second = asyncio.run(both())
    assert len(first.attempts) == 4
    assert len(second.attempts) == 0
    assert second.source is Source.EXPERT


def test_problems_that_are_under_way_at_once_pass_a_shards_limit_by_less_than_a_wave() -> None:
    wave_tokens = 2 * 64  # of recipe()

    async def all_at_once(limit: int) -> TokenBudget:
        async def answer_later(completions: Sequence[Completion]) -> None:
            await asyncio.sleep(0)

        policy = FakePolicy(
            lambda prompt_ids, seed: text_completion("wrong " + "x" * (seed % 50)), serve=answer_later
        )
        shard = TokenBudget(limit)
        await asyncio.gather(
            *(rewrite_one(PROBLEM, policy, TextVerifier(), recipe(), budget=shard) for _ in range(64))
        )
        return shard

    for limit in (1, 100, 1000, 5000):
        shard = asyncio.run(all_at_once(limit))
        assert limit <= shard.num_spent < limit + wave_tokens
        assert shard.is_spent


def test_a_teacher_is_not_paid_for_what_can_no_longer_be_used() -> None:
    record = rewritten(
        answering("wrong", "wrong"), recipe(FakeTeachers("guide", "right"), tokens_per_problem=1)
    )
    assert "teacher" not in {attempt.rollout.phase for attempt in record.attempts}
    with pytest.raises(ValueError, match="set use: direct"):
        Rewrite.model_validate(
            {"preset": "self_only", "teachers": [{"model": "big", "base_url": "http://host/v1"}]}
        )


@pytest.mark.parametrize("preset", ["mind_the_gap", "self_only", "rft", "star", "sdft"])
def test_presets_are_defaults_that_written_keys_override(preset: str) -> None:
    plain = Rewrite.model_validate({"preset": preset})
    changed = Rewrite.model_validate({"preset": preset, "guided": {"max_tokens": 77}, "fallback": "drop"})
    assert changed.guided.max_tokens == 77
    assert changed.guided.num_samples == plain.guided.num_samples
    assert changed.fallback == "drop"


@pytest.mark.parametrize(
    ("preset", "marks", "shown"),
    [("star", (6,), "2"), ("sdft", (7,), "two"), ("mind_the_gap", GUIDED, "two")],
)
def test_a_preset_shows_what_its_paper_shows_and_asks_for_what_it_asks(
    preset: str, marks: tuple[int, ...], shown: str
) -> None:
    seen: set[tuple[int, ...]] = set()

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        seen.add(tuple(prompt_ids))
        return text_completion("wrong")

    stage = {"max_tokens": 64}
    rewritten(FakePolicy(answer), recipe(preset=preset, self_align=stage, guided=stage))
    assert seen - {PLAIN} == {(*marks, *map(ord, shown))}


def test_a_teachers_solution_guides_as_a_solution_even_where_the_experts_answer_is_the_hint() -> None:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion("right" if tuple(prompt_ids) == (*GUIDED, *map(ord, "right, big")) else "x")

    stage = {"max_tokens": 64}
    one = recipe(FakeTeachers("guide", "right, big"), preset="star", self_align=stage, guided=stage)
    assert rewritten(FakePolicy(answer), one).source is Source.REWRITTEN
