"""Renders conversations with a chat template as transformers does; as a program, it does so within limits.

It gives a template what transformers gives it, without importing transformers, which takes seconds.

The program reads {"template", "conversations", "tokens", "given", "date"} from standard input; its arguments
are the limits in seconds and bytes. It exits with 0 and writes {"rendered", "reads_date", "variables"}, or
with REFUSED and writes the reason, or with TOO_LARGE. After the time limit it is killed.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

REFUSED, TOO_LARGE = 2, 3
MAX_CHARS = 1 << 20  # of one rendering
# What the caller gives anyway: conversations, and the tokenizer's special tokens.
_GIVEN_ALWAYS = {
    *("messages", "add_generation_prompt", "tools", "documents"),
    *(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")),
}


class Generation(Extension):
    """The Jinja extension for {% generation %}, which marks the assistant's text and changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own type

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def environment() -> ImmutableSandboxedEnvironment:
    """Returns the Jinja environment in which transformers compiles chat templates."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = _as_json
    made.globals.update(raise_exception=_fail, strftime_now=_no_date)
    return made


def render(
    template: Template,
    messages: list[dict[str, Any]],
    *,
    add_generation_prompt: bool,
    given: Mapping[str, Any],
    strftime_now: Callable[[str], str],
) -> str:
    """Returns the rendered conversation; `given` are the special tokens and the user's variables, by name."""
    return template.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        strftime_now=strftime_now,
        **given,
    )


def clock(day: str) -> Callable[[str], str]:
    """Returns a `strftime_now` that always formats midnight of `day`, an ISO date."""
    return datetime.combine(date.fromisoformat(day), time()).strftime


def variables_of(template: str, tokens: Mapping[str, str]) -> list[str]:
    """Returns the variables that a template reads and that a caller of transformers may set, sorted.

    jinja2 also lists variables that the template itself sets in a block. They are left out, unless the
    template tests whether they are defined, or has a default for them.
    """
    made = environment()
    tree = made.parse(template)
    own = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    asked = ("defined", "undefined", "default", "d")
    looked_at = [one for one in tree.find_all((nodes.Test, nodes.Filter)) if one.name in asked]
    own -= {one.node.name for one in looked_at if isinstance(one.node, nodes.Name)}
    own |= {macro.name for macro in tree.find_all(nodes.Macro)}
    return sorted(find_undeclared_variables(tree) - _GIVEN_ALWAYS - made.globals.keys() - tokens.keys() - own)


def _rendered(work: dict[str, Any]) -> dict[str, Any]:
    template = environment().from_string(work["template"])
    now, num_calls = clock(work["date"]), 0

    def strftime_now(form: str) -> str:
        nonlocal num_calls
        num_calls += 1
        return now(form)

    def one(conversation: dict[str, Any]) -> dict[str, str]:
        try:
            text = render(template, **conversation, given=work["given"], strftime_now=strftime_now)
        except MemoryError:
            raise
        except Exception as error:  # a template may raise anything
            return {"failed": _first_line(error)}
        if len(text) > MAX_CHARS:
            raise MemoryError
        return {"text": text}

    return {
        "rendered": [one(conversation) for conversation in work["conversations"]],
        "reads_date": num_calls > 0,
        "variables": variables_of(work["template"], work["tokens"]),
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _fail(message: str) -> NoReturn:
    raise TemplateError(message)


def _no_date(form: str) -> NoReturn:
    raise TemplateError("it asks for the current date, and none was given")


def main(limit_s: int, limit_bytes: int) -> int:
    # SIGXCPU at the first limit says why the process ended; SIGKILL, at the second, has other causes, too.
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _rendered(json.load(sys.stdin))
    except MemoryError:
        return TOO_LARGE
    except Exception as error:  # of the template's syntax, or whatever its parser raises
        print(_first_line(error))
        return REFUSED
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
