"""A completion's parts, told while it is sampled, are those of the whole; each token costs the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Prompts, Target
from drsft.policy.prompts import target_prompter
from drsft.policy.turn.part_stream import Part, PartStream, Piece
from drsft.policy.turn.split import ThoughtIds, split_ids
from tests.support.templates import FAMILIES, folder_of, model_folder

TEXTS = ["a", " ", "<t>", "</t>", "<", "t", ">", "</", "x>", "<t"]  # by id
PAIRS = ThoughtIds(
    open="<t>", close="</t>", open_ids=(2,), close_ids=(3,), is_spelt=False, begins_inside=False
)
LONG = replace(PAIRS, open_ids=(4, 5, 6), close_ids=(7, 5, 6))
REPEATING = replace(PAIRS, open_ids=(0, 0), close_ids=(1, 4, 1))
SPELT = replace(PAIRS, is_spelt=True)
MARKS = st.sampled_from([PAIRS, LONG, REPEATING, SPELT]).flatmap(
    lambda marks: st.booleans().map(lambda inside: replace(marks, begins_inside=inside))
)
IDS = st.lists(st.integers(0, len(TEXTS) - 1), max_size=14)
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def decode(ids: Sequence[int]) -> str:
    return "".join(TEXTS[one] for one in ids)


def told(stream: PartStream, ids: Sequence[int], sizes: list[int]) -> list[Piece]:
    pieces, start, number = [], 0, 0
    while start < len(ids):
        size = sizes[number % len(sizes)]
        pieces += stream.add(ids[start : start + size])
        start, number = start + size, number + 1
    return [*pieces, *stream.finish()]


def joined(pieces: list[Piece]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As a reader of the stream has them at its end."""
    thought: list[int] = []
    answer: list[int] = []
    for piece in pieces:
        if piece.part is Part.THOUGHT:
            thought += piece.ids
            answer = []
        else:
            answer += piece.ids
    return tuple(thought), tuple(answer)


@given(ids=IDS, sizes=SIZES, marks=MARKS)
def test_the_parts_are_those_of_the_whole_whatever_the_tokens_and_the_chunks_are(
    ids: list[int], sizes: list[int], marks: ThoughtIds
) -> None:
    whole = split_ids(ids, marks, decode)
    assert joined(told(PartStream(marks, decode), ids, sizes)) == (whole.thought or (), whole.answer)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "none"])
@pytest.mark.parametrize("is_spelt", [False, True])
def test_a_models_completions_are_told_in_their_parts(name: str, is_spelt: bool, tmp_path: Path) -> None:
    family = FAMILIES[name]
    if is_spelt and not family.thought:
        pytest.skip("has no thoughts whose markers could be spelt")
    if is_spelt:
        named = [one for one in family.markers if one not in family.thought[:2]]  # type: ignore[index]
        folder = model_folder(tmp_path, family.template, markers=tuple(named), eos=family.eos)
    else:
        folder = folder_of(tmp_path, family)
    target = Target(
        model=str(folder),
        chat_template_kwargs=family.kwargs,
        prompts=Prompts(plain="{question}"),
        spelt_markers=is_spelt,
    )
    prompter = target_prompter(target)
    for ids in (prompter.completion("It is 7."), prompter.written("It is 7.", "3, then < 4"), (1, 2, 3)):
        for end in range(len(ids) + 1):
            whole = prompter.split(ids[:end])
            for sizes in ([1], [2, 3], [100]):
                pieces = told(prompter.part_stream(), ids[:end], sizes)
                assert joined(pieces) == (whole.thought or (), whole.answer)


def test_an_answer_is_told_before_the_completion_ends() -> None:
    stream = PartStream(PAIRS, decode)
    assert stream.add([2, 0]) == [Piece(Part.THOUGHT, (0,))]
    assert stream.add([3, 0]) == [Piece(Part.ANSWER, (0,))]
    assert stream.add([3]) == [Piece(Part.THOUGHT, (3, 0))], "it was a thought"


@pytest.mark.parametrize("marks", [PAIRS, LONG, SPELT, replace(SPELT, begins_inside=True)])
@pytest.mark.parametrize("ids", [[0], [1], [2, 0, 3, 0], [4, 5], [7]])
def test_twice_the_tokens_cost_twice_as_much(marks: ThoughtIds, ids: list[int]) -> None:
    costs = []
    for number in (1000, 2000):
        decoded: list[int] = []

        def counted(some: Sequence[int], decoded: list[int] = decoded) -> str:
            decoded.append(len(some))
            return decode(some)

        pieces = told(PartStream(marks, counted, tail=(2, 0, 9)), (ids * number)[:number], [1])
        costs.append(sum(decoded) + sum(len(piece.ids) for piece in pieces))
    assert costs[1] < 2.1 * costs[0] + 10
    assert costs[0] < 200 * 1000
