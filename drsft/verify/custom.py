"""Runs a user's own verifier: a Python callable that the configuration names, run in the worker.

    def judge(question: str, reference: str, text: str) -> bool | str | tuple[str, str]

True and False are CORRECT and WRONG; a string is an outcome ("correct", "no_answer", ...), a pair an outcome
with its reason. An exception is UNJUDGED.
"""

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from drsft.errors import ConfigError
from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.options import VerifyOptions

__all__ = ["judge_custom", "load_callable"]


def judge_custom(case: Case, options: VerifyOptions) -> Verdict:
    finding = load_callable(options.custom[case.kind])(case.question, case.reference, case.text)
    if isinstance(finding, bool):
        return Verdict(outcome=Outcome.CORRECT if finding else Outcome.WRONG, reason=case.kind)
    outcome, reason = (finding, case.kind) if isinstance(finding, str) else finding
    return Verdict(outcome=Outcome(outcome), reason=str(reason))


@lru_cache
def load_callable(path: str) -> Callable[[str, str, str], Any]:
    """Returns the function at "package.module:name". Raises ConfigError if it cannot be loaded."""
    module_name, separator, name = path.partition(":")
    if not separator:
        raise ConfigError(f"custom verifier {path!r}: write it as package.module:function")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"custom verifier {path!r} cannot be loaded: {error}") from None
    if not callable(function):
        raise ConfigError(f"custom verifier {path!r} is not callable")
    return function  # type: ignore[no-any-return]
