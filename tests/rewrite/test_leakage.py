"""Phrases that betray the guide are found; a problem that speaks of teachers and solutions is let alone."""

import pytest

from drsft.rewrite.leakage import leaked_phrase

QUESTION = "Ann has 43 cups, gets 46, gives 7. How many?"


@pytest.mark.parametrize(
    "text",
    [
        "As the teacher explained, 43 + 46 = 89.",
        "Following the teacher, we add first.",
        "Like the expert did, subtract 7.",
        "As provided, the sum is 89.",
        "As provided by the solution, the sum is 89.",
        "Using the solution provided, the sum is 89.",
        "The reference solution adds first.",
        "By the given worked solution we get 82.",
        "In the answer above to me it says 82.",
        "According to the solution, 82 is left.",
        "In my own words: 82 are left.",
        "This matches the reference answer.",
        "I solve it without copying the worked solution.",
        "THE\nTEACHER says so.",
    ],
)
def test_a_mention_of_the_guide_is_found(text: str) -> None:
    assert leaked_phrase(text, QUESTION) is not None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How much homework is left?", "By the work shown, 4."),
        ("An expertly made cake serves 8.", "The expert adds first."),
        ("The tutorial lasts 5 hours.", "The tutor says 5."),
        ("Find all solutions.", "Following the solution provided, x is 2."),
    ],
)
def test_a_word_within_another_is_not_the_problems_own(question: str, text: str) -> None:
    assert leaked_phrase(text, question) is not None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("A teacher buys 3 pens a day.", "In a week the teacher buys 21 pens."),
        ("Two teachers share 8 apples.", "The teacher who came first has 4."),
        ("Mix 2 l of a 20% solution with water.", "The solution given by mixing is 10%."),
        ("Lunch is provided for 40 children.", "As provided for 40, it takes 40 plates."),
        (QUESTION, "As given, she has 43. We show that the answer is 82. The work takes 3 steps."),
        ("Is the reference answer in the book 4?", "Yes, the reference answer is 4."),
    ],
)
def test_a_problem_may_speak_of_its_own_things(question: str, text: str) -> None:
    assert leaked_phrase(text, question) is None
