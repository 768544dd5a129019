"""Maps each kind of problem to its verifier, for the pool to reject unknown kinds and for the worker to
judge.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from drsft.config import Verification
from drsft.errors import ConfigError
from drsft.records import Outcome, Verdict
from drsft.verify.case import BY_MODEL, Case
from drsft.verify.choice.verdict import judge_choice
from drsft.verify.code.judge import judge_code
from drsft.verify.custom import judge_custom, load_callable
from drsft.verify.extraction.thoughts import after_thoughts
from drsft.verify.literal import judge_exact, judge_regex
from drsft.verify.maths.judge import judge_math
from drsft.verify.numeric import judge_numeric
from drsft.verify.options import VerifyOptions
from drsft.verify.protocol import UNCLOSED
from drsft.verify.steps.judge import ANSWER_AND_STEPS, judge_math_with_steps, judge_steps

__all__ = ["BY_MODEL", "KINDS", "check_kind", "judge_case", "kinds_of"]

Judge = Callable[[Case, VerifyOptions], Verdict]

KINDS: Mapping[str, Judge] = {
    "math": judge_math,
    ANSWER_AND_STEPS: judge_math_with_steps,
    "steps": judge_steps,
    "numeric": judge_numeric,
    "choice": judge_choice,
    "exact": judge_exact,
    "regex": judge_regex,
    "code": judge_code,
}


def kinds_of(config: Verification) -> frozenset[str]:
    """Returns the names of all kinds of verifiers that a run with this configuration has.

    Raises ConfigError if the callable of a custom verifier cannot be loaded on this machine.
    """
    for path in config.custom.values():
        load_callable(path)
    return frozenset({*KINDS, *config.custom, *([] if config.judge is None else [BY_MODEL])})


def check_kind(kind: str, options: VerifyOptions) -> None:
    """Raises ConfigError if there is no verifier for `kind`; the kind of a custom verifier is its name."""
    if kind not in KINDS and kind != BY_MODEL and kind not in options.custom:
        known = ", ".join(sorted({*KINDS, BY_MODEL, *options.custom}))
        raise ConfigError(f"unknown verifier kind {kind!r}; known: {known}")


def judge_case(case: Case, options: VerifyOptions) -> Verdict:
    """Returns the verdict of the case's verifier on the text after the thoughts.

    A custom verifier sees the whole text. For all others, a text whose thought is not closed is NO_ANSWER.
    """
    if case.kind in options.custom:
        return judge_custom(case, options)
    said = after_thoughts(case.text)
    if said is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason=UNCLOSED)
    return KINDS[case.kind](case if said is case.text else replace(case, text=said), options)
