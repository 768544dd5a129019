"""Writes the reference of all configuration keys from the settings themselves (docs/configuration.md)."""

import json
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from drsft.config.base import Frozen

__all__ = ["LINE_CHARS", "NEEDED", "reference", "table_cell"]

_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
LINE_CHARS = 120  # of text outside tables
NEEDED = "**needed**"  # in the place of a default
_LONGEST = 60  # characters of a default; longer ones stand in the code


def reference(roots: Mapping[str, type[BaseModel]]) -> str:
    """Returns a Markdown page on every key of the settings classes in `roots`, which are given by title.

    Each root has a chapter, and each settings class in it one table, where the class first occurs.
    """
    parts, told = [_HEAD], set[type[BaseModel]]()
    for title, root in roots.items():
        parts.append(f"# {title}")
        for path, model in _walk(root, ""):
            if model not in told:
                told.add(model)
                parts.append(_section(path, model))
    return "\n\n".join(parts) + "\n"


_HEAD = """\
<!-- Written by `drsft config`; a test compares it with the settings. -->

Every key of a configuration file, with its default. On the command line a key is written with dots:
`train.learning_rate=1e-4`, `train.arms.0.name=mine`. Unknown keys are rejected. What changes the records
(`seed`, `problems`, `target`, `rewrite`) makes another run; everything else joins the existing run."""


def _walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for part in _models_in(field.annotation):
            yield from _walk(part, f"{path}.{name}" if path else name)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        if not isinstance(inner, FieldInfo):
            yield from _models_in(inner)


def _section(path: str, model: type[BaseModel]) -> str:
    lines = [f"## {model.__name__}", ""]
    if path:
        lines += [f"`{path}`", ""]
    if model.__doc__ and model.__doc__ != Frozen.__doc__:
        lines += [*textwrap.wrap(" ".join(model.__doc__.split()), LINE_CHARS, break_on_hyphens=False), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        kind = table_cell(f"{_type(field.annotation)}{_bounds(field.metadata)}")
        lines.append(f"| `{name}` | {kind} | {_default(field)} | {table_cell(field.description or '')} |")
    return "\n".join(lines)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type, inner)))
    if origin is tuple:
        is_list = len(inner) == 2 and inner[1] is Ellipsis
        return f"list of {_type(inner[0])}" if is_list else " and ".join(map(_type, inner))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return _NAMES.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _bounds(metadata: Sequence[Any]) -> str:
    signs = {
        annotated_types.Ge: "≥",
        annotated_types.Gt: ">",
        annotated_types.Le: "≤",
        annotated_types.Lt: "<",
    }
    found = [
        f"{sign} {getattr(one, kind.__name__.lower()):g}"
        for one in metadata
        for kind, sign in signs.items()
        if isinstance(one, kind)
    ]
    return f", {' and '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return NEEDED
    value = field.default
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True) or "its own"
        return value if isinstance(value, str) else f"`{json.dumps(value)}`"
    if isinstance(value, tuple):
        value = [
            one.model_dump(mode="json", exclude_defaults=True) if isinstance(one, BaseModel) else one
            for one in value
        ]
    text = json.dumps(value, ensure_ascii=False)
    return f"`{table_cell(text)}`" if len(text) <= _LONGEST else "see the code"


def table_cell(text: str) -> str:
    """Returns the text on one line with each "|" escaped, since "|" would end a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
