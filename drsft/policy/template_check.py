"""A model's chat template, tried out in a process of its own.

jinja2's sandbox keeps a template from files, attributes and modules, but not from running for ever or from
filling the memory. What renders there within the limits is rendered in here afterwards.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from drsft.policy import rendering

__all__ = ["template_trouble"]

LIMIT_S = 5  # of processor time; a template of the hub takes 0.1
LIMIT_BYTES = 1 << 30
START_S = 100  # more of the clock, on a busy machine

Turns = Sequence[Mapping[str, str]]


def template_trouble(
    template: str, *, asked: Sequence[Turns], answered: Turns, tokens: Mapping[str, str]
) -> str | None:
    """What is wrong with a template, as the end of a sentence; None when it renders all of it.

    `asked` are conversations that the model is to answer, `answered` is one that it has; `tokens` are the
    tokenizer's special ones by their names.
    """
    work = {"template": template, "asked": asked, "answered": answered, "tokens": tokens}
    return _trouble(json.dumps(work))


@lru_cache(maxsize=32)
def _trouble(work: str) -> str | None:
    command = [sys.executable, "-I", str(Path(rendering.__file__)), str(LIMIT_S), str(LIMIT_BYTES)]
    try:
        done = subprocess.run(
            command, input=work, capture_output=True, text=True, timeout=LIMIT_S + START_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"takes more than {LIMIT_S + START_S} s to render one line"
    match done.returncode:
        case 0:
            return None
        case rendering.REFUSED:
            return f"fails: {done.stdout.strip()}"
        case rendering.TOO_LARGE:
            return f"takes more than {LIMIT_BYTES >> 20} MiB to render one line"
        case _:  # killed at the limit of time
            return f"takes more than {LIMIT_S} s of processor time to render one line"
