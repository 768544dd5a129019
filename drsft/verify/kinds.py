"""Which verifier judges which kind of problem: one table, for the pool to refuse and the worker to judge."""

from collections.abc import Callable, Mapping

from drsft.errors import ConfigError
from drsft.records import Verdict
from drsft.verify.maths.judge import judge_math
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["KINDS", "check_kind", "judge_case"]

Judge = Callable[[Case, VerifyOptions], Verdict]

KINDS: Mapping[str, Judge] = {
    "math": judge_math,
}


def check_kind(kind: str) -> None:
    """Raise ConfigError unless some verifier judges `kind`."""
    if kind not in KINDS:
        raise ConfigError(f"unknown verifier kind {kind!r}; known: {', '.join(sorted(KINDS))}")


def judge_case(case: Case, options: VerifyOptions) -> Verdict:
    return KINDS[case.kind](case, options)
