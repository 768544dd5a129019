"""`drsft.verify`: one text against one reference, judged as in a run."""

import atexit
from functools import cache

from drsft.config import Verification
from drsft.records import Problem, Verdict
from drsft.verify.kinds import check_kind
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool

__all__ = ["verify"]


def verify(
    reference: str,
    text: str,
    *,
    kind: str = "math",
    question: str = "",
    verification: Verification | None = None,
) -> Verdict:
    """Returns the verdict on what `text` answers, compared with `reference`.

    `kind` names the verifier (docs/verification.md). `choice` reads the options from `question`.
    `verification` has the limits, tolerances and custom kinds of a run's `rewrite.verification`. A worker
    process judges, and stays for later calls with equal settings; a verdict that takes longer than
    `verification.timeout_s` seconds is UNJUDGED, and no text makes this raise. Raises ConfigError for an
    unknown kind.

    >>> drsft.verify("1/2", "Half of it, so the answer is 0.5.").outcome.value
    'correct'
    >>> drsft.verify("12", "The answer is 13.").answer
    '13'
    >>> drsft.verify("B", "I choose C.", kind="choice", question="Which? A) 1 B) 2 C) 3").outcome.value
    'wrong'
    """
    settings = verification or Verification()
    check_kind(kind, VerifyOptions.from_config(settings))
    problem = Problem(problem_id="", question=question, demonstration="", reference=reference, kind=kind)
    return _pool(settings.model_dump_json()).submit(problem, text).result()


@cache
def _pool(settings: str) -> VerifierPool:
    """Returns the worker pool for these settings (JSON); it lives until the process ends."""
    pool = VerifierPool.from_config(Verification.model_validate_json(settings), num_workers=1)
    atexit.register(pool.close)
    return pool
