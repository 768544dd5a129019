"""The cascade on problems that are conversations: prompts, teachers, records, shards and exports."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from drsft.config import Prompts, Rewrite, Target, Teacher
from drsft.policy.fake import FakePolicy
from drsft.policy.prompts import Prompter, load_prompter, target_prompter
from drsft.policy.teacher import TeacherText
from drsft.records import Completion, FinishReason, Message, Problem, Record, Source
from drsft.report.browsed_rows import browsed_rows
from drsft.report.terminal.record import record_view
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.export import messages_table, pairs_table
from drsft.rewrite.shard import ShardRewriter
from drsft.run import layout
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.tables import (
    RECORD_SCHEMA,
    problems_of_records,
    problems_to_table,
    records_from_table,
    records_to_table,
)
from drsft.storage import LocalStore, table_bytes
from drsft.verify.case import case_of
from drsft.verify.pool import VerifierPool
from tests.support.templates import FAMILIES, folder_of

PROMPTS = Prompts(system="You calculate.", plain="{question} Box it.", guided="{question} ({demonstration})")
EARLIER = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is 3 + 4?"),
    Message(role="assistant", content="It is 7."),
)
PROBLEM = Problem(
    problem_id="b",
    question="And 5 more?",
    demonstration="7 + 5 = 12, so \\boxed{12}.",
    reference="12",
    earlier=EARLIER,
)
PLAIN = Problem(problem_id="a", question="6 + 6?", demonstration="It is \\boxed{12}.", reference="12")
ASKED = [{"role": turn.role, "content": turn.content} for turn in EARLIER]
RIGHT, WRONG = "Now \\boxed{12}.", "Now \\boxed{13}."


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", PROMPTS)


def recipe(prompter: Prompter, **settings: object) -> Recipe:
    phase = {"num_samples": 1, "wave_size": 1}
    rewrite = Rewrite.model_validate({"self_align": phase, "guided": phase, "grounding": None, **settings})
    return Recipe(rewrite=rewrite, prompter=prompter, run_seed=0, max_model_len=4096)


def policy(prompter: Prompter, asked: list[tuple[int, ...]]) -> FakePolicy:
    """Right on guided prompts alone; notes what it is asked."""

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        asked.append(tuple(prompt_ids))
        text = RIGHT if "boxed{12}" in prompter.tokenizer.decode(list(prompt_ids)) else WRONG
        ids = prompter.completion(text)
        return Completion(
            token_ids=ids,
            text=text,
            behaviour_logprobs_T=(-0.5,) * len(ids),
            finish_reason=FinishReason.STOP,
        )

    return FakePolicy(answer)


def rewritten(prompter: Prompter, one: Recipe, asked: list[tuple[int, ...]]) -> Record:
    async def run() -> Record:
        async with VerifierPool(num_workers=1) as verifier:
            return await rewrite_one(PROBLEM, policy(prompter, asked), verifier, one)

    return asyncio.run(run())


def ids_of(prompter: Prompter, last: str) -> tuple[int, ...]:
    return prompter.conversation([*ASKED, {"role": "user", "content": last}])


def test_every_phase_asks_with_the_whole_conversation(prompter: Prompter) -> None:
    asked: list[tuple[int, ...]] = []
    record = rewritten(prompter, recipe(prompter), asked)
    guided = f"And 5 more? ({PROBLEM.demonstration})"
    assert asked == [ids_of(prompter, "And 5 more? Box it."), ids_of(prompter, guided)]
    assert (record.source, record.text) == (Source.REWRITTEN, RIGHT)
    assert record.prompt_ids == asked[0], "it is trained on the rendered conversation, without a guide"


def test_a_teacher_is_sent_the_whole_conversation(prompter: Prompter) -> None:
    sent: list[list[dict[str, str]]] = []
    teacher = Teacher(model="big", base_url="http://host/v1", use="direct", num_samples=1)

    class Teachers:
        def pick(self, problem: Problem, run_seed: int) -> Teacher:
            return teacher

        async def solve(
            self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
        ) -> list[TeacherText]:
            sent.append(messages)
            return [TeacherText(text=RIGHT, finish_reason=FinishReason.STOP, seed=seed)]

    none = {"num_samples": 0, "wave_size": 1}
    one = replace(recipe(prompter, guided=none, teachers=[teacher]), teachers=Teachers())
    record = rewritten(prompter, one, [])
    assert sent == [[*ASKED, {"role": "user", "content": "And 5 more? Box it."}]]
    assert record.source is Source.TEACHER


def test_a_judging_model_reads_all_turns_and_other_verifiers_the_last() -> None:
    assert case_of(PROBLEM, RIGHT).question == "And 5 more?"
    shown = case_of(replace(PROBLEM, kind="judge"), RIGHT).question
    assert shown.split("\n\n") == [
        "[system]\nBe brief.",
        "[user]\nWhat is 3 + 4?",
        "[assistant]\nIt is 7.",
        "[user]\nAnd 5 more?",
    ]
    assert case_of(replace(PLAIN, kind="judge"), RIGHT).question == "6 + 6?"


def test_exports_hold_the_whole_conversation(prompter: Prompter) -> None:
    record = rewritten(prompter, recipe(prompter), [])
    turns = [*ASKED, {"role": "user", "content": "And 5 more? Box it."}]
    (row,) = messages_table([record], PROMPTS)[0].to_pylist()
    assert row["messages"] == [*turns, {"role": "assistant", "content": RIGHT}]
    (pair,) = pairs_table([record], PROMPTS, run_seed=0)[0].to_pylist()
    assert pair["prompt"] == turns
    assert prompter.conversation(row["messages"][:-1]) == record.prompt_ids


def test_a_thought_in_an_earlier_turn_is_exported_apart_by_the_models_marks_and_by_think(
    tmp_path: Path,
) -> None:
    """As the prompt has it: TRL's rendering of the export is what the target was asked."""
    family = FAMILIES["brackets"]
    thinking = target_prompter(Target(model=str(folder_of(tmp_path, family)), prompts=PROMPTS))
    turn = thinking.turn
    assert turn.thought is not None
    for opening, closing in ((turn.thought.open, turn.thought.close), ("<think>", "</think>")):
        said = Message(role="assistant", content=f"{opening}\n3, then 4.\n{closing}\n\nIt is 7.")
        problem = replace(PROBLEM, earlier=(*EARLIER[:2], said))
        record = replace(rewritten(thinking, recipe(thinking), []), problem=problem)
        (row,) = messages_table([record], PROMPTS, marks_thoughts=True, thought=turn.thought)[0].to_pylist()
        (pair,) = pairs_table([record], PROMPTS, run_seed=0, marks_thoughts=True, thought=turn.thought)[
            0
        ].to_pylist()
        expected = {"role": "assistant", "content": "It is 7.", "reasoning_content": "3, then 4."}
        assert row["messages"][2] == pair["prompt"][2] == expected
        assert row["messages"][1]["reasoning_content"] is None
        turns = [{key: text for key, text in one.items() if text} for one in row["messages"][:-1]]
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(thinking.plain(problem)) == rendered
        plain = messages_table([record], PROMPTS)[0].to_pylist()
        assert plain[0]["messages"][2]["content"] == said.content, "without marks there is no column for it"


def test_inspect_and_the_page_show_every_turn_under_its_role(prompter: Prompter, tmp_path: Path) -> None:
    record = rewritten(prompter, recipe(prompter), [])
    shown = "[system]\nBe brief.\n\n[user]\nWhat is 3 + 4?\n\n[assistant]\nIt is 7.\n\n[user]\nAnd 5 more?"
    console = Console(file=io.StringIO(), width=100)
    console.print(record_view(record))
    assert isinstance(console.file, io.StringIO)
    assert shown in "\n".join(line.strip() for line in console.file.getvalue().splitlines())
    assert PLAIN.question_by_role == PLAIN.question
    store = LocalStore(tmp_path)
    ShardSet(store, "rewrite").commit("0", records_to_table([record]), {})
    run = Run(store)
    (row,) = browsed_rows(run, run.each_record())
    assert row.question == shown


def test_records_keep_the_conversation_and_plain_ones_have_no_column(prompter: Prompter) -> None:
    record = rewritten(prompter, recipe(prompter), [])
    plain = replace(record, problem=PLAIN)
    table = records_to_table([record, plain])
    assert table.schema.names == [*RECORD_SCHEMA.names, "earlier_turns"]
    assert table.schema.metadata[b"drsft.schema_version"] == b"5"
    assert records_from_table(table) == [plain, record]
    assert problems_of_records(table) == [PLAIN, PROBLEM]
    without = records_to_table([plain])
    assert without.schema.equals(RECORD_SCHEMA, check_metadata=True)
    assert problems_of_records(without) == [PLAIN]


@pytest.mark.parametrize("has_conversations", [True, False])
def test_the_shards_of_a_run_have_one_schema(
    prompter: Prompter, tmp_path: Path, has_conversations: bool
) -> None:
    store, problems = LocalStore(tmp_path), [[PLAIN], [PROBLEM if has_conversations else PLAIN]]
    for number, shard in enumerate(problems):
        table = problems_to_table(shard, has_conversations=has_conversations)
        store.put(layout.PROBLEMS.shard(f"{number:05d}"), table_bytes(table))

    async def run() -> None:
        async with VerifierPool(num_workers=1) as verifier:
            rewriter = ShardRewriter(
                store,
                recipe(prompter),
                policy(prompter, []),
                verifier,
                has_conversations=has_conversations,
            )
            for name in ("00000", "00001"):
                await rewriter.rewrite(name)

    asyncio.run(run())
    tables = [table for _, table in Run(store).record_tables()]
    assert tables[0].schema.equals(tables[1].schema)
    assert ("earlier_turns" in tables[0].schema.names) == has_conversations
    found = [record.problem for record in records_from_table(pa.concat_tables(tables))]
    assert found == [shard[0] for shard in problems]
