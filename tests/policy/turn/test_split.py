"""A completion's thought and answer, told apart by ids."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Prompts, Target
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.turn.split import ThoughtIds, split_ids
from tests.support.templates import FAMILIES, Family, folder_of, model_folder

THINKING = {name: family for name, family in FAMILIES.items() if family.thought and not family.kwargs}
THOUGHT, ANSWER = "Maybe \\boxed{5}? No.", "It is \\boxed{7}."


def prompter_of(folder: Path, family: Family) -> Prompter:
    target = Target(model=str(folder_of(folder, family)), prompts=Prompts(plain="{question}"))
    return target_prompter(target)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_answer_of_a_written_solution_is_its_text(family: Family, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path, family)
    ids = prompter.completion(ANSWER)
    assert prompter.answer_text(ids).strip() == ANSWER
    assert prompter.split(ids).is_closed


@pytest.mark.parametrize("family", THINKING.values(), ids=THINKING)
def test_the_answer_of_a_thinking_completion_is_what_follows_its_thought(
    family: Family, tmp_path: Path
) -> None:
    prompter = prompter_of(tmp_path, family)
    ids = prompter.written(ANSWER, THOUGHT)
    parts = prompter.split(ids)
    assert prompter.answer_text(ids) == ANSWER
    assert parts.thought is not None
    assert prompter.decode(parts.thought).strip() == THOUGHT


@pytest.mark.parametrize("family", THINKING.values(), ids=THINKING)
def test_a_thought_that_never_ends_has_no_answer(family: Family, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path, family)
    assert prompter.turn.thought is not None
    before = prompter.tokenizer(prompter.turn.thought.before, add_special_tokens=False)["input_ids"]
    ids = [*before, *prompter.tokenizer(THOUGHT, add_special_tokens=False)["input_ids"]]
    parts = prompter.split(ids)
    assert not parts.is_closed
    assert parts.answer == ()
    assert prompter.answer_text(ids) == ""
    assert prompter.decode(parts.thought or ()).strip() == THOUGHT


def test_markers_in_pieces_are_found_by_the_text(tmp_path: Path) -> None:
    family = FAMILIES["empty thought"]
    folder = model_folder(tmp_path, family.template, markers=("<|u|>", "<|a|>", "<|e|>"), eos="<|e|>")
    prompter = target_prompter(Target(model=str(folder), spelt_markers=True))
    ids = prompter.written(ANSWER, THOUGHT)
    parts = prompter.split(ids)
    assert prompter.answer_text(ids) == ANSWER
    assert prompter.decode(parts.thought or ()).strip() == THOUGHT
    assert prompter.answer_text(prompter.completion(ANSWER)).strip() == ANSWER


OPEN, CLOSE = 8, 9
MARKS = ThoughtIds(
    open="(", close=")", open_ids=(OPEN,), close_ids=(CLOSE,), is_spelt=False, begins_inside=False
)


@given(ids=st.lists(st.integers(6, 9), max_size=12))
def test_the_answer_holds_no_marker_that_closes_and_is_the_end_of_the_completion(ids: list[int]) -> None:
    parts = split_ids(ids, MARKS, lambda ids: "")
    assert CLOSE not in parts.answer
    assert tuple(ids)[len(ids) - len(parts.answer) :] == parts.answer
    assert (parts.thought is None) == (OPEN not in ids and CLOSE not in ids)
    if parts.thought is None:
        assert parts.answer == tuple(ids)
    last = next((one for one in reversed(ids) if one in (OPEN, CLOSE)), None)
    if last == CLOSE:
        assert len(parts.answer) == list(reversed(ids)).index(CLOSE)
    if last == OPEN:
        assert parts.answer == ()
    assert parts.is_closed == (last != OPEN)
    assert parts.num_thought_tokens + len(parts.answer) == len(ids)


@given(ids=st.lists(st.integers(6, 9), max_size=12))
def test_all_that_stands_between_the_first_opening_and_the_last_end_is_thought(ids: list[int]) -> None:
    parts = split_ids(ids, MARKS, lambda ids: "")
    if parts.thought is not None:
        ended = parts.num_thought_tokens - parts.is_closed
        first = next((one for one in ids if one in (OPEN, CLOSE)), None)
        begun = ids.index(OPEN) + 1 if first == OPEN else 0
        assert list(parts.thought) == ids[min(begun, ended) : ended]
