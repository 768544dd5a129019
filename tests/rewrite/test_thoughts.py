"""A model that thinks: what is judged, refused and recorded is its answer; its thought is kept apart."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from drsft.config import Prompts, Rewrite, Target
from drsft.policy.fake import FakePolicy
from drsft.policy.prompts import Prompter, load_prompter, target_prompter
from drsft.records import Completion, FinishReason, Outcome, Phase, Problem, Record, RejectionKind, Source
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.export import messages_table, pairs_table
from drsft.rewrite.shard import count_records
from drsft.run.summary import ShardCounts, ShardSummary
from drsft.run.tables import RECORD_SCHEMA, record_schema, records_from_table, records_to_table
from drsft.verify.pool import VerifierPool
from tests.support.templates import FAMILIES, folder_of

FAMILY_NAMES = ("open thought, kept", "empty thought", "header", "end that closes thoughts, too", "brackets")
PROBLEM = Problem(problem_id="p", question="3 + 4?", demonstration="3 + 4 = 7, so \\boxed{7}.", reference="7")
WRONG_DRAFT, RIGHT_DRAFT = "Maybe \\boxed{5}? So 2 + 2 = 5.", "Surely \\boxed{7}."
RIGHT, WRONG = "It is \\boxed{7}.", "It is \\boxed{5}."


@pytest.fixture(params=FAMILY_NAMES)
def prompter(request: pytest.FixtureRequest, tmp_path: Path) -> Prompter:
    model = str(folder_of(tmp_path, FAMILIES[request.param]))
    return target_prompter(
        Target(model=model, prompts=Prompts(plain="{question}", guided="{question} {demonstration}"))
    )


def sampled(
    prompter: Prompter, token_ids: Sequence[int], finish_reason: FinishReason = FinishReason.STOP
) -> Completion:
    """As an engine reads them."""
    text, thought = prompter.read(token_ids)
    return Completion(
        token_ids=tuple(token_ids),
        text=text,
        behaviour_logprobs_T=(-0.5,) * len(token_ids),
        finish_reason=finish_reason,
        thought=thought,
    )


def thinking(prompter: Prompter, answer: str, thought: str) -> Completion:
    return sampled(prompter, prompter.written(answer, thought))


def unfinished(prompter: Prompter, thought: str, finish_reason: FinishReason) -> Completion:
    """A thought that nothing closes, cut off or with an end of the turn."""
    assert prompter.turn.thought is not None
    text = prompter.turn.thought.before + thought
    ids = list(prompter.tokenizer(text, add_special_tokens=False)["input_ids"])
    return sampled(
        prompter, ids + [prompter.end_of_turn_id] * (finish_reason is FinishReason.STOP), finish_reason
    )


def rewritten(
    prompter: Prompter, own: Completion, guided: Completion | None = None, **refusals: bool
) -> Record:
    phase = {"num_samples": 1, "wave_size": 1}
    rewrite = Rewrite.model_validate(
        {"self_align": phase, "guided": phase, "refusals": refusals, "grounding": None}
    )
    recipe = Recipe(rewrite=rewrite, prompter=prompter, run_seed=0, max_model_len=4096)
    plain_ids = prompter.plain(PROBLEM)
    policy = FakePolicy(lambda ids, seed: own if tuple(ids) == plain_ids else guided or own)

    async def run() -> Record:
        async with VerifierPool(num_workers=1) as verifier:
            return await rewrite_one(PROBLEM, policy, verifier, recipe)

    return asyncio.run(run())


def test_a_right_answer_behind_wrong_drafts_is_kept_with_its_thought(prompter: Prompter) -> None:
    record = rewritten(prompter, thinking(prompter, RIGHT, WRONG_DRAFT))
    assert record.source is Source.OWN
    assert record.text == RIGHT
    assert record.thought is not None
    assert record.thought.text == WRONG_DRAFT
    assert record.completion_ids == prompter.written(RIGHT, WRONG_DRAFT), "the ids are the whole truth"
    behind = record.completion_ids[record.thought.num_tokens :]
    assert prompter.decode(behind).endswith(RIGHT)
    assert WRONG_DRAFT not in prompter.decode(behind)


def test_a_right_draft_does_not_make_a_wrong_answer_right(prompter: Prompter) -> None:
    record = rewritten(prompter, thinking(prompter, WRONG, RIGHT_DRAFT))
    assert {one.verdict.outcome for one in record.attempts} == {Outcome.WRONG}
    assert record.source is Source.EXPERT


def test_the_step_check_reads_the_answer_only(prompter: Prompter) -> None:
    wrong = thinking(prompter, WRONG, "-")
    record = rewritten(prompter, wrong, thinking(prompter, "3 + 4 = 7. \\boxed{7}", WRONG_DRAFT))
    assert record.source is Source.REWRITTEN
    assert record.attempts[-1].steps is not None
    assert record.attempts[-1].steps.outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("finish_reason", "outcome"),
    [(FinishReason.STOP, Outcome.NO_ANSWER), (FinishReason.LENGTH, Outcome.TRUNCATED)],
)
def test_an_unclosed_thought_has_no_answer(
    prompter: Prompter, finish_reason: FinishReason, outcome: Outcome
) -> None:
    record = rewritten(prompter, unfinished(prompter, RIGHT_DRAFT, finish_reason))
    assert {one.verdict.outcome for one in record.attempts} == {outcome}
    if outcome is Outcome.NO_ANSWER:
        assert {one.verdict.reason for one in record.attempts} == {"unclosed thought"}
    assert all(one.rollout.completion.has_open_thought for one in record.attempts)


def test_leakage_in_thoughts_is_a_rule_of_its_own(prompter: Prompter) -> None:
    wrong = thinking(prompter, WRONG, "-")
    leaking = thinking(prompter, RIGHT, "According to the reference solution it is 7.")
    kept = rewritten(prompter, wrong, leaking, leakage_in_thoughts=False)
    refused = rewritten(prompter, wrong, leaking, leakage=False)
    assert kept.source is Source.REWRITTEN
    assert refused.source is Source.EXPERT
    assert refused.attempts[-1].rejection is not None
    assert refused.attempts[-1].rejection.kind is RejectionKind.THOUGHT_MENTIONS_GUIDE
    spoken = thinking(prompter, "According to the reference solution it is \\boxed{7}.", "So.")
    said = rewritten(prompter, wrong, spoken, leakage_in_thoughts=False).attempts[-1].rejection
    assert said is not None
    assert said.kind is RejectionKind.MENTIONS_GUIDE


def test_an_experts_thought_is_written_as_the_models_own(prompter: Prompter) -> None:
    problem = replace(PROBLEM, demonstration=f"<think>{WRONG_DRAFT}</think>{RIGHT}")
    expert = prompter.solution(problem.demonstration)
    assert expert.token_ids == prompter.written(RIGHT, WRONG_DRAFT)
    assert (expert.text, expert.thought and expert.thought.text) == (RIGHT, WRONG_DRAFT)


def test_records_with_thoughts_are_read_back_as_they_were(prompter: Prompter) -> None:
    record = rewritten(prompter, thinking(prompter, RIGHT, WRONG_DRAFT))
    several = replace(record, further_completions=(record.attempts[0].rollout.completion,))
    table = records_to_table([several])
    assert table.schema.equals(record_schema(marks_thoughts=True), check_metadata=True)
    assert records_from_table(table) == [several]


def test_records_without_thoughts_have_the_columns_that_they_always_had(tmp_path: Path) -> None:
    plain = load_prompter("embedded", Prompts())
    record = rewritten(plain, sampled(plain, plain.completion(RIGHT)))
    table = records_to_table([record])
    assert table.schema.equals(RECORD_SCHEMA, check_metadata=True)
    assert [one.thought for one in records_from_table(table)] == [None]
    thinks = records_to_table([record], marks_thoughts=True)
    assert thinks.schema.equals(record_schema(marks_thoughts=True), check_metadata=True)
    assert records_from_table(thinks) == records_from_table(table)
    both = [one.select(RECORD_SCHEMA.names[:9]) for one in (table, thinks)]
    assert pa.concat_tables(both).num_rows == 2, "shards of before and after an upgrade train together"


def test_tokens_of_thoughts_are_counted_apart_in_what_a_commit_says(prompter: Prompter) -> None:
    record = rewritten(prompter, thinking(prompter, WRONG, "-"), thinking(prompter, RIGHT, WRONG_DRAFT))
    counts = count_records([record])
    for phase in (Phase.SELF_ALIGN, Phase.GUIDED):
        mine = [one.rollout.completion for one in record.attempts if one.rollout.phase is phase]
        answers = [one.token_ids[one.thought.num_tokens :] for one in mine if one.thought]
        assert counts.thought_tokens[phase] == counts.tokens[phase] - sum(map(len, answers)) > 0
    assert ShardSummary.from_json(ShardSummary(counts=counts).to_json()).counts == counts
    assert "thought_tokens" not in ShardSummary(counts=ShardCounts()).to_json()


def test_an_export_holds_the_thought_beside_the_answer(prompter: Prompter) -> None:
    record = rewritten(prompter, thinking(prompter, WRONG, "-"), thinking(prompter, RIGHT, WRONG_DRAFT))
    plain = rewritten(prompter, thinking(prompter, WRONG, "-"))
    table, _ = messages_table([record, plain], prompter.prompts, marks_thoughts=True)
    own, expert = (row["messages"][-1] for row in table.to_pylist())
    assert own == {"role": "assistant", "content": RIGHT, "reasoning_content": WRONG_DRAFT}
    assert expert == {"role": "assistant", "content": PROBLEM.demonstration, "reasoning_content": None}
    assert prompter.written(own["content"], own["reasoning_content"]) == record.completion_ids
    (pair,) = pairs_table([record], prompter.prompts, run_seed=0, marks_thoughts=True)[0].to_pylist()
    assert pair["chosen"] == [own]
    assert pair["rejected"] == [{"role": "assistant", "content": WRONG, "reasoning_content": "-"}]
