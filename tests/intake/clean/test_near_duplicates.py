"""Near-duplicates: what goes, what stays, and that the order alone decides which of two."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.config import NearDuplicates
from drsft.intake.clean.near_duplicates import NearDuplicateScreen, Shingles, bands, jaccard, shingles
from drsft.intake.clean.screen import Finding
from drsft.intake.clean.words import words
from drsft.records import Problem, problem_id_of

STORY = (
    "A baker fills 14 trays with 12 rolls each before sunrise. During the morning he sells 95 rolls at the "
    "market, gives 8 to his neighbour {name} and drops 3 on the way home. How many rolls does the baker have "
    "left in the evening?"
)


def problem(question: str, reference: str = "62") -> Problem:
    identity = problem_id_of(question, reference)
    return Problem(problem_id=identity, question=question, demonstration="", reference=reference)


def screened(*problems: Problem, **options: object) -> list[Finding | None]:
    screen = NearDuplicateScreen(NearDuplicates(**options))  # type: ignore[arg-type]
    return [screen.look_at(one, f"line {line}") for line, one in enumerate(problems, start=1)]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.upper(),
        lambda text: text.replace("Ann", "Robert"),
        lambda text: text.replace("14 trays", "14  trays,").replace("95", " 95 ").replace(".", " !"),
        lambda text: text.replace("3 on", "three on"),
        lambda text: "Exercise: " + text,
        lambda text: text.replace("in the evening", "at night"),
    ],
    ids=["copy", "case", "name", "punctuation", "number word", "prefix", "two words"],
)
def test_a_reworded_copy_goes_and_names_what_it_resembles(change: object) -> None:
    first = problem(STORY.format(name="Ann"))
    copy = problem(change(first.question))  # type: ignore[operator]
    kept, removed = screened(first, copy)
    assert kept is None
    assert removed is not None
    assert removed.reason == "near-duplicate"
    assert f"line 1 (problem {first.problem_id})" in removed.detail


@pytest.mark.parametrize("old", ["14", "12", "95", "8", "3"])
def test_other_numbers_make_another_problem(old: str) -> None:
    first = problem(STORY.format(name="Ann"))
    other = problem(STORY.format(name="Ann").replace(f" {old} ", " 17 "))
    assert screened(first, other) == [None, None]


def test_the_trap_can_be_switched_off() -> None:
    first = problem(STORY.format(name="Ann"))
    other = problem(STORY.format(name="Ann").replace(" 3 ", " 4 "), "61")
    assert screened(first, other, answers_distinguish=False) == [None, None], "numbers alone suffice"
    *_, removed = screened(first, other, numbers_distinguish=False, answers_distinguish=False)
    assert removed is not None


def test_swapped_numbers_make_another_problem() -> None:
    text = (
        "Mia has {} red and {} blue marbles and buys as many red ones as there are pupils in her class of 20."
    )
    assert screened(problem(text.format(3, 5)), problem(text.format(5, 3))) == [None, None]


def test_a_word_that_turns_the_story_round_shows_in_the_answer() -> None:
    first = problem(STORY.format(name="Ann"), "62")
    turned = problem(STORY.format(name="Ann").replace("gives 8 to", "gets 8 from"), "78")
    assert screened(first, turned) == [None, None]
    assert screened(first, turned, answers_distinguish=False)[1] is not None, "the words alone do not tell"


@pytest.mark.parametrize("question", ["1 + 1?", "Why?", "x", "?!"])
def test_short_questions_are_removed_only_as_the_same_words(question: str) -> None:
    again, other = f" {question.lower()} ", f"{question} now then"
    found = screened(problem(question, "2"), problem(again, "2"), problem(other, "2"))
    assert found[0] is None
    assert (found[1] is not None) == bool(words(question))
    assert found[2] is None


def test_the_first_in_order_stays_and_only_kept_problems_are_compared_with() -> None:
    parts = [f"w{chr(97 + i)}" for i in range(26)]
    a, b, c = " ".join(parts[:22]), " ".join(parts[2:24]), " ".join(parts[4:26])
    found = screened(problem(a, "1"), problem(b, "1"), problem(c, "1"), threshold=0.8)
    assert [one is None for one in found] == [True, False, True], "c is like b, which went, and not like a"
    assert [one is None for one in screened(problem(c, "1"), problem(b, "1"), threshold=0.8)] == [True, False]


def _variants(num: int, seed: int) -> list[Problem]:
    """Questions without numbers and with one answer: a single group, so that the index has to find pairs."""
    rng = random.Random(seed)
    vocabulary = [f"{a}{b}" for a in "bcdfg" for b in "aeiou" for _ in "x"]
    questions = []
    for _ in range(num):
        base = [rng.choice(vocabulary) + rng.choice("klmnp") for _ in range(40)]
        questions.append(base)
        if rng.random() < 0.3:
            changed = list(rng.choice(questions))
            changed[rng.randrange(40)] = "other"
            questions.append(changed)
    return [problem(" ".join(question), "yes") for question in questions]


def test_a_large_group_is_searched_through_the_index_and_loses_little() -> None:
    problems = _variants(150, seed=0)
    found = screened(*problems)
    kept: list[Shingles] = []
    for one, finding in zip(problems, found, strict=True):
        own = shingles(words(one.question), size=2)
        similarity = max((jaccard(own, other) for other in kept), default=0.0)
        assert finding is None or similarity >= 0.8, "nothing is removed below the threshold"
        if finding is None:
            assert similarity < 0.88, "a pair well above the threshold is all but certain to be found"
            kept.append(own)
    assert len(problems) - len(kept) > 30


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("num_permutations", [16, 128, 256])
def test_bands_find_nearly_every_pair_at_the_threshold(threshold: float, num_permutations: int) -> None:
    num_bands, rows = bands(threshold=threshold, num_permutations=num_permutations)
    assert num_bands >= 2
    assert num_bands * rows <= num_permutations
    found = 1 - (1 - threshold**rows) ** num_bands
    assert found >= 0.98 or rows == 1


def test_the_same_problems_give_the_same_findings_every_time() -> None:
    problems = _variants(60, seed=1)
    assert screened(*problems) == screened(*problems)


def test_the_worked_case_of_the_docstring() -> None:
    a, b = (shingles(text.split(), size=2) for text in ("a b c d", "a b c e"))
    assert jaccard(a, b) == pytest.approx(2 / 4)


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30))
def test_a_text_is_wholly_like_itself_and_its_copy_always_goes(parts: list[str]) -> None:
    text = " ".join(parts)
    own = shingles(words(text), size=2)
    assert jaccard(own, own) == 1.0
    kept, removed = screened(problem(text), problem(text + "."), threshold=1.0)
    assert kept is None
    assert removed is not None


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.lists(st.sampled_from("abcd"), max_size=12)
)
def test_similarity_is_that_of_the_sets(a: list[str], b: list[str]) -> None:
    def runs(of: list[str]) -> set[tuple[str, ...]]:
        return {tuple(of[i : i + 2]) for i in range(max(1, len(of) - 1))}

    b = b or ["a"]
    expected = len(runs(a) & runs(b)) / len(runs(a) | runs(b))
    assert jaccard(shingles(a, size=2), shingles(b, size=2)) == pytest.approx(expected)
