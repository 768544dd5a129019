"""What makes no difference between two texts, and what does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.intake.clean.words import figures, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tom's cat ate 1,000 mice!", "toms CAT ate 1 000 mice"),
        ("He pays $5.00.", "He pays $5"),
        ("a 6-year-old dog", "a 6 year old dog"),
        ("What is $3 \\times 4$?", "What is 3 \\times 4"),
        ("\\left( x+1 \\right)", "(x + 1)"),
        ("\\dfrac{1}{2} of 10{,}000", "\\frac{1}{2} of 10,000"),
        ("five cups", "5 cups"),
        ("5kg of flour", "5 kg of flour"),
        ("**Find** x", "Find x"),
        ("２ ＋ ２", "2+2"),
        ("naïve — or not", "naïve, or not"),
    ],
)
def test_typesetting_makes_no_difference(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x + 3 = 5", "x - 3 = 5"),
        ("2 * 3", "2 / 3"),
        ("5.1 m", "51 m"),
        ("-3 degrees", "3 degrees"),
        ("x^2", "x^3"),
        ("2,3 and 4", "23 and 4"),
        ("seven cups", "eight cups"),
        ("half of them", "a third of them"),
    ],
)
def test_what_changes_an_exercise_is_a_figure(one: str, other: str) -> None:
    assert figures(words(one)) != figures(words(other))


def test_words_without_spaces_are_counted_one_by_one() -> None:
    assert words("求x的值。") == ["求", "x", "的", "值"]


@pytest.mark.parametrize("text", ["", "  ", "?!…", "$$", "\x00"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert words(text) == []


@given(st.text())
def test_any_text_has_words_that_stay_what_they_are(text: str) -> None:
    once = words(text)
    assert all(once)
    assert set(figures(once)) <= set(once)


@given(
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1),
    st.sampled_from([" ", ", ", "\n", "; "]),
)
def test_plain_words_come_back_in_order_whatever_parts_them(parts: list[str], separator: str) -> None:
    assert words(separator.join(parts).upper()) == words(" ".join(parts))
