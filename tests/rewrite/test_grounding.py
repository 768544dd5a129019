"""Guided solutions that do not lead to their answer are rejected, with their scores in the record."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drsft.config import Grounding, Rewrite, RunConfig
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter
from drsft.records import (
    Completion,
    GroundingScores,
    Outcome,
    Problem,
    Record,
    Rejection,
    RejectionKind,
    Source,
    StepReport,
    Verdict,
)
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.grounding import GroundingCheck, rejection_of_scores, rejection_of_steps
from drsft.run.tables import records_from_table, records_to_table
from drsft.verify.pool import VerifierPool

PROBLEM = Problem(
    problem_id="p", question="Ann has 48 and 24. Together?", demonstration="48 + 24 = 72", reference="72"
)
PLAIN, GUIDED = (1, 2), (3, 4)


class Likelihoods(FakePolicy):
    """Characters are certain but for those of a number that its text does not derive, and of an expert."""

    def __init__(self, guided: str) -> None:
        super().__init__(lambda prompt, seed: text_completion("wrong" if tuple(prompt) == PLAIN else guided))
        self.scored: list[str] = []

    async def logprobs(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        assert tuple(prompt_ids) == PLAIN, "nothing is scored behind its guide"
        text = "".join(map(chr, completion_ids)).rstrip("\x00")
        self.scored.append(text)
        if text == PROBLEM.demonstration:
            return (-0.5,) * len(completion_ids)
        derived = text.find("= 72")
        first = text.find("72")
        values = [-0.1] * len(completion_ids)
        if derived < 0 or first < derived:
            values[first : first + 2] = [-4.0, -4.0]
        return tuple(values)


def prompter() -> Prompter:
    found = SimpleNamespace(
        plain=lambda problem: PLAIN,
        guided=lambda problem: GUIDED,
        completion=lambda text: (*map(ord, text), 0),
        solution=lambda text: replace(text_completion(text), behaviour_logprobs_T=None),
        decode=lambda ids: "".join(chr(one) for one in ids if one),
        turn=SimpleNamespace(thought=None),
    )
    return cast(Prompter, found)


def rewritten(policy: FakePolicy, problem: Problem = PROBLEM, **grounding: Any) -> Record:
    phase = {"num_samples": 2, "wave_size": 2, "max_tokens": 90}
    rewrite = Rewrite.model_validate({"self_align": phase, "guided": phase, "grounding": grounding})
    recipe = Recipe(rewrite=rewrite, prompter=prompter(), run_seed=0, max_model_len=200)

    async def run() -> Record:
        with VerifierPool() as verifier:
            return await rewrite_one(problem, policy, verifier, recipe)

    return asyncio.run(run())


def test_a_solution_that_derives_its_answer_is_kept_with_its_scores() -> None:
    record = rewritten(Likelihoods("She has 48 + 24 = 72. \\boxed{72}"))
    assert record.source is Source.REWRITTEN
    scores = record.attempts[-1].grounding
    assert scores is not None
    assert scores.answer_logprob == pytest.approx(-0.2)
    assert scores.mean_logprob == pytest.approx(-0.1)
    assert scores.expert_mean_logprob == pytest.approx(-0.5)


def test_a_text_is_scored_once_however_often_it_is_sampled() -> None:
    policy = Likelihoods("She has 48 + 24 = 72. \\boxed{72}")
    record = rewritten(policy)
    first, second = record.attempts[2:]
    assert first.grounding == second.grounding is not None
    assert sorted(policy.scored) == sorted({PROBLEM.demonstration, first.rollout.completion.text})


def test_a_copied_answer_is_rejected_and_the_experts_text_stays() -> None:
    record = rewritten(Likelihoods("It is 72, for 48 + 24 = 72. \\boxed{72}"))
    assert record.source is Source.EXPERT
    guided = record.attempts[2:]
    assert {one.verdict.outcome for one in guided} == {Outcome.CORRECT}
    assert {one.rejection and one.rejection.kind for one in guided} == {RejectionKind.UNGROUNDED}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("\\boxed{72}", RejectionKind.UNDERIVED),
        ("2 + 2 = 4. \\boxed{72}", RejectionKind.UNDERIVED),
        ("48 + 24 = 71, no: 48 + 24 = 72. \\boxed{72}", RejectionKind.UNSOUND_STEPS),
    ],
)
def test_a_calculation_must_give_the_answer_and_equations_hold(text: str, kind: RejectionKind) -> None:
    record = rewritten(Likelihoods(text), min_answer_logprob=None)
    assert record.source is Source.EXPERT
    rejection = record.attempts[-1].rejection
    assert rejection is not None
    assert rejection.kind is kind
    without = rewritten(
        Likelihoods(text),
        min_answer_logprob=None,
        min_equations=0,
        derives_answer=False,
        narrows_gap=False,
    )
    assert without.source is Source.REWRITTEN


def test_a_text_less_likely_than_the_experts_is_rejected() -> None:
    class Unlikely(Likelihoods):
        async def logprobs(
            self, prompt_ids: Sequence[int], completion_ids: Sequence[int]
        ) -> tuple[float, ...]:
            return tuple(one - 0.6 for one in await super().logprobs(prompt_ids, completion_ids))

    class Odd(Unlikely):
        async def logprobs(
            self, prompt_ids: Sequence[int], completion_ids: Sequence[int]
        ) -> tuple[float, ...]:
            found = await super().logprobs(prompt_ids, completion_ids)
            is_expert = "".join(map(chr, completion_ids)).startswith(PROBLEM.demonstration)
            return tuple(one + 0.6 for one in found) if is_expert else found

    text = "She has 48 + 24 = 72. \\boxed{72}"
    rejection = rewritten(Odd(text)).attempts[-1].rejection
    assert rejection is not None
    assert rejection.kind is RejectionKind.WIDENS_GAP
    assert rewritten(Odd(text), narrows_gap=False).source is Source.REWRITTEN
    assert rewritten(Odd(text), replace(PROBLEM, demonstration="")).source is Source.REWRITTEN, "no expert"


def test_own_samples_are_not_scored() -> None:
    policy = Likelihoods("")
    policy.answer = lambda prompt, seed: text_completion("\\boxed{72}")
    assert rewritten(policy).source is Source.OWN
    assert policy.scored == []


def test_the_experts_text_is_scored_once_and_only_where_it_is_compared() -> None:
    policy = Likelihoods("She has 48 + 24 = 72. \\boxed{72}")
    rewritten(policy)
    assert policy.scored.count(PROBLEM.demonstration) == 1
    rewritten(policy, narrows_gap=False)
    assert policy.scored.count(PROBLEM.demonstration) == 1


def test_what_its_equations_speak_against_is_not_scored() -> None:
    policy = Likelihoods("\\boxed{72}")
    assert rewritten(policy).source is Source.EXPERT
    assert policy.scored == []


def test_a_policy_that_scores_nothing_is_refused() -> None:
    class Samples:
        generate = FakePolicy.generate

    with pytest.raises(ValueError, match=r"rewrite\.grounding needs a policy that scores texts"):
        rewritten(cast(FakePolicy, Samples()))


def steps(num_read: int, num_failed: int = 0, *, derives: bool | None = None) -> Verdict:
    report = StepReport(num_read=num_read, num_failed=num_failed, derives_answer=derives)
    return Verdict(outcome=Outcome.WRONG if num_failed else Outcome.CORRECT, reason=report.text, steps=report)


SCORES = GroundingScores(answer_logprob=-1.0, mean_logprob=-1.0, expert_mean_logprob=-1.0)


def kind_of(rejection: Rejection | None) -> RejectionKind | None:
    return None if rejection is None else rejection.kind


def test_each_rule_rejects_only_below_its_own_limit() -> None:
    def by_steps(verdict: Verdict | None, **settings: Any) -> RejectionKind | None:
        return kind_of(rejection_of_steps(verdict, Grounding.model_validate(settings)))

    def by_scores(scores: GroundingScores, **settings: Any) -> RejectionKind | None:
        return kind_of(rejection_of_scores(scores, Grounding.model_validate(settings)))

    assert by_steps(steps(1)) is None
    assert by_steps(steps(1), min_equations=2) is RejectionKind.TOO_FEW_STEPS
    assert by_steps(steps(3, 1)) is RejectionKind.UNSOUND_STEPS
    assert by_steps(steps(3, 1), min_equations=0, derives_answer=False) is None
    assert by_steps(steps(3, 1), min_equations=0) is RejectionKind.UNSOUND_STEPS
    assert by_steps(steps(0, derives=True), min_equations=2) is None, "its answer is a number"
    assert by_steps(steps(3, derives=False)) is RejectionKind.UNDERIVED
    assert by_steps(steps(3, derives=False), derives_answer=False) is None
    assert by_steps(None) is None, "a kind without equations"
    assert by_scores(SCORES, min_answer_logprob=-1.0) is None, "limits are reached, not passed"
    assert by_scores(SCORES, min_answer_logprob=math.nextafter(-1.0, 0.0)) is RejectionKind.UNGROUNDED
    assert by_scores(replace(SCORES, answer_logprob=None)) is None, "unknown is no reason"
    assert by_scores(replace(SCORES, mean_logprob=-1.1)) is RejectionKind.WIDENS_GAP
    assert by_scores(replace(SCORES, mean_logprob=-1.1, expert_mean_logprob=None)) is None


def test_scores_are_stored_and_read_back_and_other_runs_have_no_column() -> None:
    record = rewritten(Likelihoods("She has 48 + 24 = 72. \\boxed{72}"))
    table = records_to_table([record], is_grounded=True)
    assert records_from_table(table) == [record]
    plain = replace(record, attempts=tuple(replace(one, grounding=None) for one in record.attempts))
    columns = records_to_table([plain]).schema.field("attempts").type.value_type
    assert columns.get_field_index("grounding") == -1
    assert records_from_table(records_to_table([plain], is_grounded=True)) == [plain]


def test_a_run_without_grounding_keeps_the_name_of_older_versions() -> None:
    config = {"name": "r", "problems": {"path": "p.jsonl"}, "target": {"model": "embedded"}}
    without = RunConfig.model_validate({**config, "rewrite": {"grounding": None}})
    assert without.run_id == "r-13934d7003ed9c4e"
    assert RunConfig.model_validate(config).run_id != without.run_id
    assert RunConfig.model_validate_json(without.model_dump_json()) == without


def test_a_solution_behind_a_thought_is_scored_where_it_answers() -> None:
    """With the target's real tokenizer the tokens of the statement are those of the text."""

    async def score() -> GroundingScores:
        from drsft.config import Prompts
        from drsft.policy.prompts import load_prompter

        class Counting(FakePolicy):
            async def logprobs(
                self, prompt_ids: Sequence[int], completion_ids: Sequence[int]
            ) -> tuple[float, ...]:
                return tuple(-float(position) for position in range(len(completion_ids)))

        prompter = load_prompter("embedded", Prompts())
        completion: Completion = prompter.solution("48+24=72;\\boxed{72}")
        check = GroundingCheck(PROBLEM, (1,), Counting(lambda ids, seed: completion), prompter)
        scores = await check.scores(completion, "72")
        tokens = [prompter.decode([one]) for one in completion.token_ids]
        position = next(i for i in range(len(tokens)) if "".join(tokens[: i + 1]).startswith("48+24=7"))
        digits = 1 if tokens[position] == "72" else 2
        assert scores.answer_logprob == -sum(range(position, position + digits))
        return scores

    asyncio.run(score())


def test_an_answer_that_was_read_with_its_calculation_is_scored_where_its_value_stands() -> None:
    class Unlikely(Likelihoods):
        async def logprobs(
            self, prompt_ids: Sequence[int], completion_ids: Sequence[int]
        ) -> tuple[float, ...]:
            text = "".join(map(chr, completion_ids)).rstrip("\x00")
            return tuple(-0.1 if character == "7" else -5.0 for character in f"{text}\x00")

    record = rewritten(Unlikely("x = 48 + 24 = 72"), narrows_gap=False)
    scores = record.attempts[-1].grounding
    assert scores is not None
    assert scores.answer_logprob == pytest.approx(-5.1), "of 72 alone"
