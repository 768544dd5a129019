"""A user's own rows as texts to score, with the embedded model's tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest

from drsft.config import Columns, Problems, Prompts
from drsft.errors import InputError
from drsft.gap.datasets import ReadCounts, read_texts
from drsft.gap.scored_texts import Role, Text
from drsft.policy.prompts import Prompter, load_prompter

QUESTION, OWN, EXPERT = "Ann has 5 cards, finds 3.", "5+3=8;\\boxed{8}", "Adding 3 gives 8."


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", Prompts(plain="Solve: {question}"))


def _read(
    prompter: Prompter, folder: Path, *rows: dict[str, Any], max_model_len: int = 256
) -> tuple[list[Text], ReadCounts]:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = ReadCounts()
    problems = Problems(path=str(path))
    texts = [
        text
        for row in read_texts(problems, reading, prompter=prompter, max_model_len=max_model_len)
        for text in row
    ]
    return texts, reading


def _words(prompter: Prompter, ids: Any) -> str:
    return str(prompter.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def test_a_row_with_completion_and_solution_is_both_kept_text_and_demonstration(
    prompter: Prompter, tmp_path: Path
) -> None:
    row = {"problem": QUESTION, "completion": OWN, "solution": EXPERT, "source": "mine", "id": "x1"}
    (kept, demonstration), _ = _read(prompter, tmp_path, row)
    assert (kept.role, kept.source, kept.row_id) == (Role.KEPT, "mine", "x1")
    assert (demonstration.role, demonstration.source) == (Role.DEMONSTRATION, "expert")
    assert f"Solve: {QUESTION}" in _words(prompter, kept.prompt_ids)
    assert _words(prompter, kept.completion_ids) == OWN
    assert kept.completion_ids[-1] == prompter.end_of_turn_id
    assert list(kept.prompt_ids) == list(demonstration.prompt_ids)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": QUESTION, "completion": OWN},
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "chosen": [{"role": "x", "content": OWN}],
        },
        {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": OWN}]},
    ],
)
def test_prompts_that_are_already_prompts_are_taken_as_they_stand(
    prompter: Prompter, tmp_path: Path, row: dict[str, Any]
) -> None:
    (text,), _ = _read(prompter, tmp_path, row)
    assert "Solve:" not in _words(prompter, text.prompt_ids)
    assert QUESTION in _words(prompter, text.prompt_ids)
    assert _words(prompter, text.completion_ids) == OWN
    assert text.source == "data"


def test_a_conversation_of_several_turns_is_rendered_as_it_stands(prompter: Prompter, tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "3 + 4?"), ("assistant", "7"), ("user", QUESTION)]
    asked = [{"role": role, "content": content} for role, content in turns]
    messages = [*asked, {"role": "assistant", "content": OWN}]
    rows = [{"messages": messages}, {"messages": json.dumps(messages)}, {"prompt": asked, "completion": OWN}]
    texts, _ = _read(prompter, tmp_path, *rows)
    rendered = prompter.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    expected = prompter.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert [list(text.prompt_ids) for text in texts] == [expected] * 3
    assert {_words(prompter, text.completion_ids) for text in texts} == {OWN}


def test_conversations_without_a_last_question_are_counted(prompter: Prompter, tmp_path: Path) -> None:
    turn = {"role": "user", "content": QUESTION}
    answer = {"role": "assistant", "content": OWN}
    rows = [{"messages": [answer]}, {"messages": [{"content": QUESTION}]}, {"messages": [turn, answer]}]
    texts, reading = _read(prompter, tmp_path, *rows)
    assert len(texts) == 1
    assert reading.set_aside == {"no user turn at the end": 1, "message without a role": 1}


def test_a_plain_data_set_of_experts_is_scored_as_it_would_be_trained_on(
    prompter: Prompter, tmp_path: Path
) -> None:
    (text,), _ = _read(prompter, tmp_path, {"question": QUESTION, "solution": EXPERT})
    assert (text.role, text.source) == (Role.KEPT, "expert")
    assert text.row_id.endswith("line 1")


def test_rows_that_cannot_be_scored_are_counted(prompter: Prompter, tmp_path: Path) -> None:
    rows = [
        {"problem": QUESTION},
        {"completion": OWN},
        {"problem": QUESTION, "completion": OWN * 60},
        {"problem": QUESTION, "completion": OWN},
    ]
    texts, reading = _read(prompter, tmp_path, *rows)
    assert len(texts) == 1
    assert reading.num_read == 4
    assert reading.set_aside == {"no completion": 1, "no prompt": 1, "too long for the model": 1}
    assert "line 1: no completion: it has problem" in reading.first


def test_nothing_usable_is_one_line_that_says_what_a_row_needs(prompter: Prompter, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: no prompt.*none of 1 rows.*problem, prompt or messages"):
        _read(prompter, tmp_path, {"x": 1})


def test_columns_are_read_by_path_and_template_as_in_a_run(prompter: Prompter, tmp_path: Path) -> None:
    rows = [{"meta": {"asked": QUESTION, "story": "Once."}, "answers": [{"text": OWN}], "value": 2.5}]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"data": rows}))
    question, solution = "{meta.story}\n{meta.asked}", "{answers[0].text} #### {value}"
    problems = Problems(path=str(path), columns=Columns(question=question, demonstration=solution))
    ((text,),) = read_texts(problems, ReadCounts(), prompter=prompter, max_model_len=256)
    assert f"Solve: Once.\n{QUESTION}" in _words(prompter, text.prompt_ids)
    assert _words(prompter, text.completion_ids) == f"{OWN} #### 2.5"
