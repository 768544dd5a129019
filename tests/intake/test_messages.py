"""Problems that are conversations, as TRL and verl store them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drsft.config import Columns, NearDuplicates, Problems, Prompts, Target
from drsft.errors import InputError
from drsft.intake.clean.near_duplicates import NearDuplicateScreen
from drsft.intake.messages import Conversation, read_conversation
from drsft.intake.planning import plan_problems
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, load_prompter, target_prompter
from drsft.records import Message, Problem, problem_id_of
from drsft.run import layout
from drsft.run.tables import PROBLEM_SCHEMA, problems_from_table
from drsft.storage import LocalStore, read_table
from tests.support.templates import FAMILIES, folder_of, model_folder

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "What is 3 + 4?"}
ANSWERED = {"role": "assistant", "content": "It is 7."}
AGAIN = {"role": "user", "content": "And 5 more?"}
SOLVED = {"role": "assistant", "content": "It is \\boxed{12}."}
TURNS = [SYSTEM, ASKED, ANSWERED, AGAIN, SOLVED]
EARLIER = tuple(Message(**turn) for turn in TURNS[:3])


def read(
    folder: Path, *rows: dict[str, Any], prompter: Prompter | None = None, **columns: Any
) -> tuple[list[Problem], Intake]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"answer": "12", **row}) + "\n" for row in rows))
    config = Problems(path=str(path), columns=Columns(**{"messages": "messages", **columns}))
    intake = Intake()
    limits: dict[str, Any] = {} if prompter is None else {"prompter": prompter, "max_model_len": 4096}
    return list(read_problems(config, intake, **limits)), intake


def parts(turn: dict[str, str]) -> dict[str, Any]:
    half = len(turn["content"]) // 2
    texts = (turn["content"][:half], turn["content"][half:])
    return {"role": turn["role"], "content": [{"type": "text", "text": text} for text in texts]}


@pytest.mark.parametrize(
    "messages",
    [TURNS, json.dumps(TURNS), [parts(turn) for turn in TURNS], json.dumps([parts(turn) for turn in TURNS])],
    ids=["list", "JSON", "parts", "JSON of parts"],
)
def test_every_spelling_gives_the_same_problem(tmp_path: Path, messages: Any) -> None:
    (problem,), _ = read(tmp_path, {"messages": messages})
    assert problem == Problem(
        problem_id=problem_id_of("And 5 more?", "12", EARLIER),
        question="And 5 more?",
        demonstration="It is \\boxed{12}.",
        reference="12",
        earlier=EARLIER,
    )


def test_parquet_holds_conversations_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": TURNS, "answer": "12"}]), path)
    config = Problems(path=str(path), columns=Columns(messages="messages"))
    (problem,) = read_problems(config, Intake())
    assert problem.earlier == EARLIER


def test_a_demonstration_of_its_own_takes_the_place_of_the_last_turn(tmp_path: Path) -> None:
    row = {"messages": TURNS, "solution": "a default's name", "expert": "7 + 5 = \\boxed{12}"}
    (of_messages,), _ = read(tmp_path, row)
    assert of_messages.demonstration == SOLVED["content"]
    (named,), _ = read(tmp_path, row, demonstration="expert")
    assert named.demonstration == row["expert"]
    assert (named.problem_id, named.earlier) == (of_messages.problem_id, EARLIER)
    (unanswered,), _ = read(tmp_path, {**row, "messages": TURNS[:-1]})
    assert unanswered.demonstration == "a default's name", "there is no turn to take"
    assert (unanswered.problem_id, unanswered.earlier) == (of_messages.problem_id, EARLIER)


def test_ids_cover_the_whole_conversation_and_plain_ones_stay(tmp_path: Path) -> None:
    others = [[], TURNS[:1], TURNS[1:3], [SYSTEM, {**ASKED, "content": "4?"}, ANSWERED]]
    rows = [{"messages": [*before, AGAIN, SOLVED]} for before in (TURNS[:3], *others)]
    problems, _ = read(tmp_path, *rows)
    assert len({one.problem_id for one in problems}) == len(rows)
    assert problems[1].problem_id == problem_id_of("And 5 more?", "12"), "one user turn is a plain problem"
    assert problem_id_of("1+1?", "2") == "dd411fba8ff7174fa2af", "as it was before there were conversations"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("What is 3 + 4?", "messages are not a list"),
        ({"role": "user"}, "messages are not a list"),
        (None, "messages are not a list"),
        ([], "no messages"),
        (["What is 3 + 4?"], "message without a role"),
        ([{"content": "What is 3 + 4?"}], "message without a role"),
        ([{"role": "tool", "content": "7"}, SOLVED], "unknown role"),
        ([ASKED, SYSTEM, AGAIN], "system turn after others"),
        ([ASKED, {**ANSWERED, "tool_calls": [{"name": "add"}]}, AGAIN, SOLVED], "message with tool calls"),
        ([{"role": "user", "content": None}], "message without text"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "message without text"),
        ([ASKED, {"role": "assistant", "content": " "}, AGAIN, SOLVED], "empty message"),
        ([SOLVED], "no user turn at the end"),
        ([SYSTEM], "no user turn at the end"),
        ([ASKED, ANSWERED, SOLVED], "no user turn at the end"),
        ([{"role": "user", "content": "half \ud800 of it"}, SOLVED], "not valid Unicode"),
        ([ASKED], "no demonstration"),
    ],
)
def test_bad_shapes_are_set_aside_with_a_reason(tmp_path: Path, messages: Any, reason: str) -> None:
    problems, intake = read(tmp_path, {"messages": messages}, {"messages": TURNS})
    assert len(problems) == 1
    assert intake.reasons == {reason: 1}
    assert "\n" not in intake.quarantined[0].detail


def test_a_missing_field_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no messages: field 'messages' is missing .*set columns.messages"):
        read(tmp_path, {"problem": "1+1?"})


def test_a_template_of_one_turn_sets_conversations_aside(tmp_path: Path) -> None:
    template = (
        "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    )
    folder = model_folder(tmp_path / "model", template, markers=())
    prompter = target_prompter(Target(model=str(folder), prompts=Prompts(plain="{question}")))
    problems, intake = read(tmp_path, {"messages": TURNS[1:]}, {"messages": TURNS[3:]}, prompter=prompter)
    assert [one.question for one in problems] == ["And 5 more?"]
    assert intake.reasons == {"refused by the chat template": 1}
    assert "one turn only" in intake.quarantined[0].detail


def test_a_thought_apart_belongs_to_the_demonstration_of_a_model_that_thinks(tmp_path: Path) -> None:
    rows = {"messages": [*TURNS[:4], {**SOLVED, "reasoning_content": "7, then 5"}]}
    thinking = target_prompter(Target(model=str(folder_of(tmp_path / "model", FAMILIES["empty thought"]))))
    (problem,), _ = read(tmp_path, rows, prompter=thinking)
    solution = thinking.solution(problem.demonstration)
    assert solution.thought is not None
    assert (solution.text, solution.thought.text) == (SOLVED["content"], "7, then 5")
    (plain,), _ = read(tmp_path, rows, prompter=load_prompter("embedded", Prompts(plain="{question}")))
    assert plain.demonstration == SOLVED["content"]


@pytest.mark.parametrize("messages", [None, "messages"])
def test_shards_have_earlier_turns_only_where_problems_may_be_conversations(
    tmp_path: Path, messages: str | None
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"problem": "1+1?", "solution": "\\boxed{2}", "answer": "2", "messages": [{**ASKED}, SOLVED]}
    path.write_text(json.dumps(row) + "\n")
    store = LocalStore(tmp_path / "run")
    plan_problems(
        Problems(path=str(path), columns=Columns(messages=messages)),
        store,
        layout.PROBLEMS,
        prompter=load_prompter("embedded", Prompts(plain="{question}")),
        max_model_len=512,
    )
    table = read_table(store, layout.PROBLEMS.shard("00000"))
    has_column = ["earlier_turns"] if messages else []
    assert table.schema.names == [*PROBLEM_SCHEMA.names, *has_column]
    assert problems_from_table(table)[0].earlier == ()


def test_conversations_with_equal_last_turns_are_no_near_duplicates() -> None:
    def one(text: str) -> Problem:
        (earlier,) = (Message(role="user", content=text),)
        ids = problem_id_of("Why?", "12", [earlier])
        return Problem(problem_id=ids, question="Why?", demonstration="", reference="12", earlier=(earlier,))

    screen = NearDuplicateScreen(NearDuplicates())
    first, other = "Ann buys a dozen red eggs at the market.", "There are as many months in every year."
    assert screen.look_at(one(first), "line 1") is None
    assert screen.look_at(one(other), "line 2") is None
    found = screen.look_at(one(first.upper()), "line 3")
    assert found is not None
    assert found.reason == "near-duplicate"


def test_a_setting_that_is_not_made_changes_no_name() -> None:
    assert "messages" not in Columns().model_dump(mode="json")
    one = Columns(messages="chat", demonstration=("solution",))
    assert Columns.model_validate_json(one.model_dump_json()) == one
    assert (one.sets_demonstration, Columns(messages="chat").sets_demonstration) == (True, False)


def test_turns_of_share_gpt_are_read_as_the_others() -> None:
    turns = [("system", "Be brief."), ("human", "2 + 2?"), ("gpt", "4")]
    shared = [{"from": speaker, "value": text} for speaker, text in turns]
    usual = [
        {"role": role, "content": text}
        for role, (_, text) in zip(("system", "user", "assistant"), turns, strict=True)
    ]
    assert read_conversation(shared) == read_conversation(usual)
    assert isinstance(read_conversation(shared), Conversation)
