"""Renders a chat template as transformers does, within limits: a program for a process of its own.

It knows what transformers gives a template, but not transformers, which takes seconds to load.
Reads {"template", "asked", "answered", "tokens"} from standard input; arguments: seconds, bytes. Ends with 0,
or with REFUSED and the reason on standard output, or with TOO_LARGE; out of time it is killed.
"""

import json
import resource
import sys
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

REFUSED, TOO_LARGE = 2, 3


class Generation(Extension):
    """{% generation %} marks the assistant's text, and changes nothing in it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own type

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = _as_json
    made.globals.update(raise_exception=_fail, strftime_now=lambda form: "01 Jan 2026")
    return made


def render(work: dict[str, Any]) -> None:
    template = environment().from_string(work["template"])
    given = {"tools": None, "documents": None, **work["tokens"]}
    for messages in work["asked"]:
        template.render(messages=messages, add_generation_prompt=True, **given)
    template.render(messages=work["answered"], add_generation_prompt=False, **given)


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _fail(message: str) -> NoReturn:
    raise TemplateError(message)


def main(limit_s: int, limit_bytes: int) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        render(json.load(sys.stdin))
    except MemoryError:
        return TOO_LARGE
    except Exception as error:  # a template may raise anything
        print((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
