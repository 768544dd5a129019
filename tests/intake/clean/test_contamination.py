"""Overlap with benchmarks: word n-grams, short questions, boilerplate."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.config import Decontaminate
from drsft.intake.clean.contamination import ContaminationScreen
from drsft.intake.clean.screen import Finding
from drsft.records import Problem

LONG = (
    "Each evening Noor rows a 6-mile-long lap and rests on an island near its end. When she rows at a steady "
    "speed of v miles an hour, the lap takes her 3 hours, with r minutes on the island among them."
)
BOILERPLATE = (
    " The answer can be written as m/n, where m and n are relatively prime positive integers. Find m + n."
)


def problem(question: str, identity: str = "p") -> Problem:
    return Problem(problem_id=identity, question=question, demonstration="", reference="1")


def screen(*questions: str, **options: int) -> ContaminationScreen:
    benchmark = [problem(question, f"b{i}") for i, question in enumerate(questions)]
    return ContaminationScreen({"aime24": benchmark}, Decontaminate(**options))


def found(one: ContaminationScreen, question: str) -> Finding | None:
    return one.look_at(problem(question), "line 1")


def test_a_copy_is_found_with_benchmark_problem_and_words() -> None:
    finding = found(screen("Unrelated words stand here for once.", LONG), f"Problem 7. {LONG.upper()} Enjoy!")
    assert finding is not None
    assert finding.reason == "in benchmark aime24"
    assert "13 words in a row as in its problem b1" in finding.detail
    assert "each evening noor rows a 6 mile long lap" in finding.detail


def test_a_part_of_enough_words_is_found_and_one_word_less_is_not() -> None:
    start = LONG.split()
    assert found(screen(LONG), " ".join(start[:11]) + " but nothing else") is not None  # 6-mile-long: 3
    assert found(screen(LONG), " ".join(start[:10]) + " but nothing else") is None


def test_other_numbers_break_the_run() -> None:
    text = "Tom has {} apples and buys {} more, eats {}, and shares the rest among {} friends. How many each?"
    assert found(screen(text.format(3, 4, 1, 2)), text.format(3, 4, 1, 2)) is not None
    assert found(screen(text.format(3, 4, 1, 2)), text.format(5, 6, 2, 3)) is None


def test_a_question_shorter_than_the_ngram_matches_in_full_wherever_it_stands() -> None:
    short = screen("Find the sum of the first 20 odd numbers.")
    assert found(short, "Homework: find the sum of the first 20 odd numbers") is not None
    assert found(short, "Find the sum of the first 21 odd numbers.") is None


def test_a_very_short_question_matches_only_as_a_whole() -> None:
    short = screen("What is 2 + 2?")
    assert found(short, "what is 2+2") is not None
    assert found(short, "What is 2 + 2 + 5 - 1?") is None


def test_a_short_problem_is_not_a_part_of_a_long_question() -> None:
    assert found(screen(LONG), "Noor rows a lap") is None


def test_words_that_many_questions_share_identify_none() -> None:
    questions = [f"{name} rolls a fair die until it shows {n}." + BOILERPLATE for n, name in enumerate("ABC")]
    other = "A lamp is lit with probability one third in each room of a hotel." + BOILERPLATE
    assert found(screen(*questions), other) is None
    assert found(screen(*questions[:2]), other) is not None, "two questions are no custom yet"
    assert found(screen(*questions), questions[1]) is not None


def test_a_question_of_boilerplate_alone_still_counts() -> None:
    questions = [BOILERPLATE + word for word in ("", " Now.", " Then.", " Here.")]
    assert found(screen(*questions), "Given is nothing." + BOILERPLATE) is not None


def test_the_same_question_in_several_benchmarks_is_one_question() -> None:
    both = ContaminationScreen(
        {name: [problem(LONG, name)] for name in ("one", "two", "three")}, Decontaminate()
    )
    finding = found(both, LONG + " Really.")
    assert finding is not None
    assert finding.reason == "in benchmark one"


def test_an_empty_benchmark_finds_nothing() -> None:
    assert found(screen("?!"), "?!") is None
    assert found(screen(), LONG) is None


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=40),
    st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=40),
    st.integers(2, 6),
)
def test_it_agrees_with_a_plain_search(question: list[str], text: list[str], ngram: int) -> None:
    length = min(ngram, len(question))
    parts = [question[i : i + length] for i in range(len(question) - length + 1)]
    shared = any(text[i : i + length] == part for part in parts for i in range(len(text) - length + 1))
    expected = question == text or (shared and length >= min(3, ngram))
    finding = found(screen(" ".join(question), ngram=ngram, min_words=3), " ".join(text))
    assert (finding is not None) == expected


@pytest.mark.parametrize("prefix", ["", "Solve: ", "Q17) "])
@given(st.lists(st.sampled_from("abcdefghijkl"), min_size=13, max_size=60))
def test_every_copy_of_a_long_question_is_found(prefix: str, question: list[str]) -> None:
    assert found(screen(" ".join(question)), prefix + ", ".join(question).upper()) is not None
