"""Text that is told while it is sampled is the text of the whole, and costs as much as it is long."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drsft.config import Prompts
from drsft.policy.prompts import Prompter, load_prompter
from serve.text_stream import TextStream

PROMPTER: Prompter = load_prompter("embedded", Prompts())
NUM_IDS = len(PROMPTER.tokenizer)


class Decoder:
    """Counts the tokens that it decodes."""

    num_tokens = 0

    def __call__(self, token_ids: Sequence[int]) -> str:
        self.num_tokens += len(token_ids)
        return PROMPTER.decode(token_ids)


def ids_of(text: str) -> list[int]:
    return list(PROMPTER.completion(text)[:-1])


def in_chunks(ids: list[int], sizes: list[int]) -> list[list[int]]:
    """The sizes again and again."""
    chunks, start = [], 0
    while start < len(ids):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(ids[start : start + size])
        start += size
    return chunks


def told(ids: list[int], sizes: list[int]) -> list[str]:
    text = TextStream(PROMPTER.decode)
    return [*(text.add(chunk) for chunk in in_chunks(ids, sizes)), text.flush()]


BYTES = ids_of("😀語é")  # a token each: four, three and two of one character
PARTS = st.tuples(st.sampled_from("😀語é�a"), st.integers(0, 3), st.integers(1, 4)).map(
    lambda cut: ids_of(cut[0])[cut[1] :][: cut[2]]
)  # of a character, or all of it
ANY_IDS = st.lists(st.integers(0, NUM_IDS - 1).map(lambda one: [one]) | PARTS, max_size=30).map(
    lambda parts: [one for part in parts for one in part]
)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(ids=ANY_IDS, sizes=SIZES)
@example(ids=[BYTES[0], PROMPTER.end_of_turn_id, *BYTES[1:4]], sizes=[1])  # which is no text
def test_whatever_the_tokens_are_the_pieces_join_to_their_text(ids: list[int], sizes: list[int]) -> None:
    assert "".join(told(ids, sizes)) == PROMPTER.decode(ids)


@given(text=st.text(max_size=60), sizes=SIZES)
def test_no_character_is_told_by_halves(text: str, sizes: list[int]) -> None:
    ids = ids_of(text.replace("\ufffd", ""))
    assert "\ufffd" not in "".join(told(ids, sizes))


@given(text=st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_what_is_whole_is_told_at_once(text: str) -> None:
    ids, so_far, pieces = ids_of(text), TextStream(PROMPTER.decode), ""
    for number, one in enumerate(ids, 1):
        pieces += so_far.add([one])
        assert pieces == PROMPTER.decode(ids[:number])


@pytest.mark.parametrize(
    "ids",
    [ids_of("So 43 + 46 = 89. "), ids_of("語"), ids_of("\ufffd"), BYTES[:1], BYTES[:3], BYTES[1:2]],
    ids=["words", "characters of many bytes", "the sign for no character", "halves", "three of four", "ends"],
)
def test_twice_the_tokens_cost_twice_as_much(ids: list[int]) -> None:
    costs = []
    for number in (1000, 2000):
        decoder = Decoder()
        text = TextStream(decoder)
        for one in (ids * number)[:number]:
            text.add([one])
        costs.append(decoder.num_tokens)
    assert costs[1] < 2.1 * costs[0]
    assert costs[0] < 200 * 1000
