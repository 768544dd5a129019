"""Finds a data set's verifier by trial: which kind accepts the references as answers, and the solutions?"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise

from drsft.errors import InputError
from drsft.records import Outcome, Problem, Verdict
from drsft.verify.choice.offered import letters_of, options_of
from drsft.verify.references import parse_reference, unmeetable

__all__ = ["MAX_TRIED", "KindTrial", "chosen_trial", "try_kinds"]

MAX_TRIED = 150  # problems
STRICTEST_FIRST = ("choice", "math", "numeric")
SLACK = 0.02  # a stricter kind may accept fewer references by this share
MAX_WORDS = 12  # of an answer in words
_STATED = re.compile(r"####|\\boxed|\$|=|answer", re.IGNORECASE)
GAIN = 0.05  # a laxer kind must accept more solutions by this share
ENOUGH = 0.8
MAX_EXACT_CHARS = 80

_TOLERANCE = re.compile(r"(?<=\d)\s*(?:±|\+/-)\s*[\d.]+")  # longer references, which no answer would repeat

Submit = Callable[[Problem, str], "Future[Verdict]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindTrial:
    """How a kind of verifier judged the references and solutions of some problems."""

    kind: str
    num_tried: int
    num_met: int  # references that an answer equal to them meets
    num_solutions: int
    num_solutions_right: int  # solutions that meet their reference
    num_others: int
    num_others_accepted: int  # references of other problems that were judged CORRECT
    first_failure: str = ""

    @property
    def met(self) -> float:
        return self.num_met / max(1, self.num_tried)

    @property
    def solutions_right(self) -> float:
        return self.num_solutions_right / max(1, self.num_solutions)

    @property
    def reason(self) -> str:
        told = [f"accepts {self.num_met} of {self.num_tried} references as answers"]
        if self.num_solutions:
            told.append(f"{self.num_solutions_right} of {self.num_solutions} solutions are right by it")
        if self.num_others_accepted:
            told.append(f"accepts {self.num_others_accepted} of {self.num_others} answers of other problems")
        return ", ".join(told)


def try_kinds(problems: Sequence[Problem], submit: Submit, *, has_solutions: bool) -> list[KindTrial]:
    """Tries the kinds choice, math, numeric and exact, and returns their trials in this order.

    Each kind judges the references as answers, references of other problems, and with `has_solutions` the
    demonstrations. `submit` is `VerifierPool.submit`.
    """
    return [
        _tried(kind, problems, submit, has_solutions=has_solutions) for kind in (*STRICTEST_FIRST, "exact")
    ]


def chosen_trial(trials: Sequence[KindTrial], *, median_chars: int, are_letters: bool = False) -> KindTrial:
    """Returns the trial of the kind to use: of those that accept the most references, the strictest.

    A kind that accepts clearly more solutions goes before a stricter one. If no kind accepts 80 % of the
    references and they are short, it is `exact`. With `are_letters`, it is `choice` if 40 % of the questions
    list an option that the reference names. Raises InputError if no kind accepts even 40 % and the references
    are long.
    """
    by_kind = {one.kind: one for one in trials}
    graded = [by_kind[kind] for kind in STRICTEST_FIRST if kind in by_kind]
    best = max(one.met for one in graded)
    if best < ENOUGH and "exact" in by_kind and median_chars <= MAX_EXACT_CHARS:
        return by_kind["exact"]
    if best < ENOUGH / 2:
        failure = max(graded, key=lambda one: one.met).first_failure
        raise InputError(
            f"the answers are texts that no verifier can compare ({failure:.120}); name another field: "
            "--answer FIELD, or let a model judge: --kind judge "
            "'rewrite.verification.judge={model: …, url: …}'"
        )
    if by_kind["choice"].met >= ENOUGH / 2 and are_letters:
        return by_kind["choice"]
    fitting = [one for one in graded if one.met >= best - SLACK]
    most_right = max(one.solutions_right for one in fitting)
    return next(one for one in fitting if one.solutions_right >= most_right - GAIN)


def _tried(kind: str, problems: Sequence[Problem], submit: Submit, *, has_solutions: bool) -> KindTrial:
    readable: list[Problem] = []
    failure = ""
    for problem in problems:
        reference = parse_reference(problem.reference, kind)
        unmet = None if reference is None else unmeetable(problem.question, reference, kind)
        if reference is None or unmet is not None or not _offers(kind, problem) or _is_prose(problem):
            failure = failure or f"{problem.reference[:60]!r}: {unmet.reason if unmet else 'cannot be read'}"
        else:
            readable.append(replace(problem, kind=kind, reference=reference))
    own = [submit(one, f"\\boxed{{{_TOLERANCE.sub('', one.reference)}}}") for one in readable]
    others = [
        submit(one, f"\\boxed{{{two.reference}}}")
        for one, two in pairwise(readable)
        if one.reference != two.reference
    ]
    solutions = [submit(one, one.demonstration) for one in readable] if has_solutions else []
    return KindTrial(
        kind=kind,
        num_tried=len(problems),
        num_met=_num_right(own),
        num_solutions=len(problems) if has_solutions else 0,
        num_solutions_right=_num_right(solutions),
        num_others=len(others),
        num_others_accepted=_num_right(others),
        first_failure=failure,
    )


def _is_prose(problem: Problem) -> bool:
    """Returns whether a reference is prose that does not announce an answer.

    Such a reference cannot be judged: any answer found in it would be arbitrary.
    """
    words = problem.reference.split()
    is_solution = problem.reference == problem.demonstration
    return not is_solution and len(words) > MAX_WORDS and _STATED.search(problem.reference) is None


def _offers(kind: str, problem: Problem) -> bool:
    """Returns whether the question lists options that include the reference, as kind `choice` needs."""
    if kind != "choice":
        return True
    offered = options_of(problem.question)
    return bool(offered) and letters_of(problem.reference, offered) is not None


def _num_right(verdicts: "Sequence[Future[Verdict]]") -> int:
    return sum(one.result().outcome is Outcome.CORRECT for one in verdicts)
