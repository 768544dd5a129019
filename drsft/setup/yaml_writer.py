"""Writes a configuration's tree as YAML with a comment beside the values that have a reason."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["commented_yaml"]

WIDTH = 110


def commented_yaml(tree: Mapping[str, Any], comments: Mapping[str, str], *, head: str) -> str:
    """Returns `tree` as YAML, with `head` as a comment at the top and each comment beside or above its value.

    The keys of `comments` are dotted, as in "target.dtype". Parsing the text gives an equal tree.
    """
    lines = [f"# {_printable(line)}" for line in head.splitlines()]
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            lines.append("")
        lines += _lines(key, value, key, comments, indent=0)
    return "\n".join(lines) + "\n"


def _lines(name: str, value: Any, path: str, comments: Mapping[str, str], *, indent: int) -> list[str]:
    space = "  " * indent
    inner = any(key.startswith(f"{path}.") for key in comments)
    flow = f"{space}{_flow(name)}: {_flow(value)}"
    is_block = isinstance(value, Mapping) and bool(value) and (indent == 0 or inner or len(flow) > WIDTH)
    first = f"{space}{_flow(name)}:" if is_block else flow
    lines = _with_comment(first, comments.get(path), space)
    if is_block:
        for key, one in value.items():
            lines += _lines(str(key), one, f"{path}.{key}", comments, indent=indent + 1)
    elif isinstance(value, list) and len(flow) > WIDTH:
        items = [f"{space}  - {_flow(one)}" for one in value]
        lines = [*_with_comment(f"{space}{_flow(name)}:", comments.get(path), space), *items]
    return lines


def _with_comment(line: str, comment: str | None, space: str) -> list[str]:
    if comment is None:
        return [line]
    plain = " ".join(_printable(comment).split())
    if len(line) + len(plain) + 4 <= WIDTH:
        return [f"{line}  # {plain}"]
    return [f"{space}# {plain}", line]


def _printable(text: str) -> str:
    """Returns the text without the characters that YAML does not allow in comments, but that data may
    contain.
    """
    return "".join(char if char.isprintable() and char < "\ue000" else " " for char in text)


def _flow(value: Any) -> str:
    """Returns the value on one line; line breaks are escaped."""
    is_plain = json.dumps(
        value, ensure_ascii=False, default=str
    ).isprintable()  # PyYAML reads U+0085 as a space
    style = '"' if isinstance(value, str) and "\n" in value else None
    text = yaml.safe_dump(
        value,
        default_style=style,
        default_flow_style=True,
        allow_unicode=is_plain,
        sort_keys=False,
        width=float("inf"),
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
