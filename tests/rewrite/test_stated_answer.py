"""Where a solution first states its answer: the place, and the tokens that write it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.rewrite.stated_answer import first_statement, token_range


def stated(text: str, answer: str, question: str = "How many?") -> tuple[int, str] | None:
    where = first_statement(text, answer, question)
    return None if where is None else (where.start, text[where])


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("48 + 24 = 72 clips. So 72.", "72", (10, "72")),
        ("That makes 1,200 in all: \\boxed{1200}", "1200", (11, "1,200")),
        ("It costs $5.00, so \\boxed{5}", "5", (10, "5.00")),
        ("172 and 72.5 are others; 72", "72", (25, "72")),
        ("So x = \\frac{1}{2}, thus \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", (7, "\\frac{1}{2}")),
        ("Bees are insects, so B. The answer is B", "B", (21, "B")),
        ("the red  apple, or the red apple", "red apple", (4, "red  apple")),
        ("nothing of the kind", "7", None),
        ("", "7", None),
        ("a blank answer", " ", None),
    ],
)
def test_the_first_place_is_found_by_value_or_by_words(
    text: str, answer: str, found: tuple[int, str] | None
) -> None:
    assert stated(text, answer) == found


def test_an_answer_that_the_question_names_is_stated_where_it_is_a_result() -> None:
    question = "Ann has 12 pears, buys 6 and eats 6. How many has she?"
    assert stated("Ann has 12 and buys 6: 18. Then 18 - 6 = 12. So 12.", "12", question) == (41, "12")
    assert stated("Of 12 pears none is gone, 12", "12", question) == (26, "12")


@given(
    words=st.lists(st.text("ab1 .=é\u4e2d", min_size=1, max_size=4), min_size=1, max_size=12), data=st.data()
)
def test_the_tokens_of_a_place_are_the_fewest_that_write_all_of_it(
    words: list[str], data: st.DataObject
) -> None:
    """Against a search over all ranges of tokens."""
    text = "".join(words)
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))

    def decode(ids: Sequence[int]) -> str:
        return "".join(words[one] for one in ids)

    found = token_range(range(len(words)), slice(start, stop), decode)
    ends = [len(decode(range(count + 1))) for count in range(len(words))]
    writing = [i for i, end in enumerate(ends) if end - len(words[i]) < stop and end > start]
    assert found == range(writing[0], writing[-1] + 1)


def test_a_number_of_thousands_of_digits_states_no_other_answer() -> None:
    """Python reads no integer of over 4,300 digits, and a model that repeats itself writes them."""
    text = f"It is {'1' * 5000}, or 72."
    assert text[first_statement(text, "72", "How many?")] == "72"
    assert first_statement(text, "1" * 4999, "How many?") is None
