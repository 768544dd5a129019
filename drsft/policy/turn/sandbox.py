"""Renders with an untrusted chat template, in a process of its own with limits of time and memory.

jinja2's sandbox keeps a template from files, attributes and modules, but not from endless loops or from using
all memory. A template that stays within the limits here is later rendered in our own process.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from drsft.errors import ModelError
from drsft.policy.turn import rendering

__all__ = ["Conversation", "Renderings", "render_within_limits"]

LIMIT_S = 5  # of processor time; a template of the hub takes 0.1
LIMIT_BYTES = 1 << 30
START_S = 100  # more of the clock, on a busy machine
_SIMPLER = "set target.chat_template to a simpler one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation that a template has to render, with the generation prompt at its end or without."""

    messages: tuple[Mapping[str, Any], ...]
    add_generation_prompt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderings:
    """The results by the conversations' names: a text, or the reason why rendering failed."""

    texts: Mapping[str, str]
    failures: Mapping[str, str]
    reads_date: bool
    variables: tuple[str, ...]


def render_within_limits(
    template: str,
    conversations: Mapping[str, Conversation],
    *,
    tokens: Mapping[str, str],
    variables: Mapping[str, Any],
    date: str,
) -> Renderings:
    """Renders all conversations in a separate process; the results have the same names.

    `tokens` are the tokenizer's special ones by name, `variables` those that the user sets, `date` is an ISO
    date. Raises ModelError, whose line begins with "its chat template", for a template that cannot be
    compiled, or that exceeds the limits.
    """
    work = {
        "template": template,
        "conversations": [
            {"messages": one.messages, "add_generation_prompt": one.add_generation_prompt}
            for one in conversations.values()
        ],
        "tokens": dict(tokens),
        "given": {**tokens, **variables},
        "date": date,
    }
    answer = json.loads(_answer(json.dumps(work), LIMIT_S))
    named = dict(zip(conversations, answer["rendered"], strict=True))
    return Renderings(
        texts={name: one["text"] for name, one in named.items() if "text" in one},
        failures={name: one["failed"] for name, one in named.items() if "failed" in one},
        reads_date=answer["reads_date"],
        variables=tuple(answer["variables"]),
    )


@lru_cache(maxsize=32)
def _answer(work: str, limit_s: int) -> str:
    command = [sys.executable, "-I", str(Path(rendering.__file__)), str(limit_s), str(LIMIT_BYTES)]
    try:
        done = subprocess.run(
            command, input=work, capture_output=True, text=True, timeout=limit_s + START_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"its chat template takes more than {limit_s + START_S} s to render drsft's test conversations; "
            f"{_SIMPLER}"
        ) from None
    match done.returncode:
        case 0:
            return done.stdout
        case rendering.REFUSED:
            raise ModelError(f"its chat template fails: {done.stdout.strip()}; set target.chat_template")
        case rendering.TOO_LARGE:
            raise ModelError(
                f"its chat template takes more than {LIMIT_BYTES >> 20} MiB to render drsft's test "
                f"conversations; {_SIMPLER}"
            )
        case status if status == -signal.SIGXCPU:
            raise ModelError(
                f"its chat template takes more than {limit_s} s of processor time to render drsft's test "
                f"conversations; {_SIMPLER}"
            )
        case status:  # such as a kill for lack of memory
            raise ModelError(
                "its chat template cannot be rendered: the process that renders it ended with exit status "
                f"{status}; {_SIMPLER}"
            )
