"""Judges a Python solution by its unit tests."""

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.code.program import extract_code, parse_tests, program_of
from drsft.verify.code.sandbox import PROTECTIONS, run_program
from drsft.verify.options import VerifyOptions

__all__ = ["judge_code"]


def judge_code(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT only if every test ran and passed; WRONG if one failed, or the code crashed.

    NO_ANSWER means that the text has no code. A wall-clock timeout is UNJUDGED, since the machine may be
    slow, and so is a missing sandbox.
    """
    unit_tests = parse_tests(case.reference)
    if unit_tests is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="the reference has no unit tests")
    code = extract_code(case.text, unit_tests.entry_point)
    if code is None or not code.strip():
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no code found")
    run = run_program(program_of(unit_tests, code), options)

    def verdict(outcome: Outcome, reason: str) -> Verdict:
        return Verdict(outcome=outcome, reason=reason, answer=code)

    match run.status:
        case "passed":
            weak = f" (without {', '.join(run.missing)})" if run.missing else ""
            return verdict(Outcome.CORRECT, "all tests passed" + weak)
        case "failed":
            return verdict(Outcome.WRONG, "a test failed")
        case "raised":
            return verdict(Outcome.WRONG, f"raised {run.detail}")
        case "exited":
            return verdict(Outcome.WRONG, "exited before its tests were done")
        case "crashed":
            return verdict(Outcome.WRONG, f"crashed: {run.detail}")
        case "CPU limit":
            return verdict(Outcome.WRONG, "processor time limit")
        case "refused":
            lacking = "; ".join(PROTECTIONS[name] for name in run.missing)
            return verdict(Outcome.UNJUDGED, f"refused: this machine lacks {lacking}")
    return verdict(Outcome.UNJUDGED, f"time limit of {options.code_timeout_s:g} s")
