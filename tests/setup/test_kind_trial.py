"""The kind that is chosen is the strictest of those that meet the references."""

from concurrent.futures import Future

import pytest

from drsft.errors import InputError
from drsft.records import Outcome, Problem, Verdict
from drsft.setup.kind_trial import KindTrial, chosen_trial, try_kinds
from drsft.verify.case import case_of
from drsft.verify.kinds import judge_case
from drsft.verify.options import VerifyOptions


def here(problem: Problem, text: str) -> "Future[Verdict]":
    """The verdict of this process, in the place of a pool's."""
    future: Future[Verdict] = Future()
    future.set_result(judge_case(case_of(problem, text), VerifyOptions()))
    return future


def problems(
    references: list[str], *, question: str = "What?", solution: str = "So it is {}."
) -> list[Problem]:
    return [
        Problem(problem_id=str(i), question=question, demonstration=solution.format(one), reference=one)
        for i, one in enumerate(references)
    ]


def chosen(tried: list[Problem], *, has_solutions: bool = False, median_chars: int = 5) -> str:
    return chosen_trial(try_kinds(tried, here, has_solutions=has_solutions), median_chars=median_chars).kind


OPTIONS = "Which?\nA. one\nB. two\nC. three\nD. four"


@pytest.mark.parametrize(
    ("references", "question", "kind"),
    [
        (["12", "3", "-7", "1000"], "How many?", "math"),
        (["\\frac{1}{2}", "x^2+1", "(3, 4)", "\\sqrt{2}"], "Find it.", "math"),
        (["True", "False", "[1, 2]", "2.5"], "What holds?", "math"),
        (["A", "B", "D", "A"], OPTIONS, "choice"),
        (["two", "four", "one", "two"], OPTIONS, "choice"),
        (["3.2 ± 0.1", "9.8 ± 0.2", "7 ± 1"], "How long?", "numeric"),
    ],
)
def test_the_strictest_kind_that_meets_the_references(
    references: list[str], question: str, kind: str
) -> None:
    assert chosen(problems(references, question=question)) == kind


def test_references_that_only_a_reader_can_judge_are_refused_with_the_way_out() -> None:
    prose = (
        "The king left his town {} the harvest had failed and nobody there lent him any more of their money"
    )
    with pytest.raises(InputError, match="--kind judge"):
        chosen(problems([prose.format(word) for word in ("because", "although", "after")]), median_chars=100)


def test_a_laxer_kind_is_taken_where_it_accepts_clearly_more_solutions() -> None:
    def trial(kind: str, met: int, right: int) -> KindTrial:
        return KindTrial(
            kind=kind,
            num_tried=100,
            num_met=met,
            num_solutions=100,
            num_solutions_right=right,
            num_others=0,
            num_others_accepted=0,
        )

    trials = [trial("choice", 0, 0), trial("math", 100, 60), trial("numeric", 100, 90)]
    assert chosen_trial(trials, median_chars=4).kind == "numeric"
    trials[1] = trial("math", 99, 88)
    assert chosen_trial(trials, median_chars=4).kind == "math"


def test_other_answers_that_are_taken_for_right_are_counted() -> None:
    trial = next(
        one
        for one in try_kinds(problems(["0.5", "1/2", "3"]), here, has_solutions=False)
        if one.kind == "math"
    )
    assert (trial.num_others, trial.num_others_accepted) == (2, 1)
    assert here(problems(["0.5"])[0], "\\boxed{1/2}").result().outcome is Outcome.CORRECT
