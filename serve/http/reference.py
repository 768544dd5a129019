"""Writes the reference of the HTTP API from the routes and records; docs/http.md is its output.

python -m serve.http.reference > docs/http.md
"""

import json
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from drsft.config.reference import LINE_CHARS, NEEDED, table_cell
from serve.api import AttemptEvent, StageEvent, TokensEvent, VerdictEvent
from serve.http.backend import Backend
from serve.http.bodies import READ_S
from serve.http.errors import MEDIA_TYPE
from serve.http.routes import make_app
from serve.service import RewriteService
from serve.settings import ServeConfig

__all__ = ["http_reference"]

Json = Mapping[str, Any]
REF = "#/components/schemas/"
EVENTS = (StageEvent, AttemptEvent, TokensEvent, VerdictEvent)
_TYPES = {"string": "text", "boolean": "true or false"}
_BOUNDS = {
    "minimum": "≥ {:.10g}",
    "exclusiveMinimum": "> {:.10g}",
    "maximum": "≤ {:.10g}",
    "exclusiveMaximum": "< {:.10g}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "minItems": "length ≥ {}",
    "maxItems": "length ≤ {}",
}

_HEAD = f"""\
<!-- Written by `python -m serve.http.reference`; a test holds it to the service. -->

# HTTP API

What a client sends to the service and what it gets. [The service](serving.md) says how to start one, who may
call it, and how it admits, repeats and ends requests. The examples call a service that was started with
`drsft serve serve/local.yaml`. `GET /openapi.json` has the same contract for programs, `/` a page to try it.

- Bodies are JSON and arrive within {READ_S:g} s. An unknown field is an error.
- A service with keys needs the header `Authorization: Bearer KEY` on every `POST`.
- Every answer has the request's id in the header `X-Request-Id`. A client may choose it: 1 to 64 letters,
  digits, `_` and `-`.
- `limits.…` are the [settings of the service](configuration.md#limits)."""
_EVENTS = """\
## Events of a stream

Server-sent events: lines `id:`, `event:` and `data:`, then an empty line. The data of an event is a JSON
object. The last event is `result`, whose data is a [RewriteResult](#rewriteresult), or `error`, whose data is
an [ErrorBody](#errorbody)."""
_ERRORS = f"""\
## Errors

Every error is an [ErrorBody](#errorbody), sent as `{MEDIA_TYPE}`. It names the wrong fields
and never repeats their values."""


class _Route(NamedTuple):
    method: str
    path: str
    contract: Json

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.path}"


def http_reference() -> str:
    """Returns the Markdown page: routes with their examples, events of a stream, errors, and all records."""
    page = _contract()
    schemas: dict[str, Json] = dict(page["components"]["schemas"])
    routes = [
        _Route(method, path, contract)
        for path, methods in page["paths"].items()
        for method, contract in methods.items()
    ]
    parts = [_HEAD, *(_route(route, schemas) for route in routes), _EVENTS]
    for event in EVENTS:
        schema = event.model_json_schema(ref_template=REF + "{model}")
        schemas |= schema.get("$defs", {})
        parts.append(_record(f"Event `{event.kind}`", schema, schemas, has_defaults=False))
    parts += [_ERRORS, _errors(routes)]
    asked = list(dict.fromkeys(name for route in routes for name in _records(_asked(route), schemas)))
    told = dict.fromkeys(name for route in routes for name in _records(route.contract["responses"], schemas))
    for title, names in (("Requests", asked), ("Answers", [name for name in told if name not in asked])):
        parts.append(f"## {title}")
        parts += [_record(name, schemas[name], schemas, has_defaults=title == "Requests") for name in names]
    return "\n\n".join(parts) + "\n"


def _contract() -> Json:
    """Returns the OpenAPI document. No request is made, so no model is loaded."""
    settings = {"target": {"model": "embedded"}, "access": {"open_on_loopback": True}}
    config = ServeConfig.model_validate(settings)
    backend = Backend(config, cast(RewriteService, None), num_pending=_none, model_fingerprint="")
    return make_app(backend).openapi()


async def _none() -> int:
    return 0


def _asked(route: _Route) -> Json:
    return cast(Json, route.contract.get("requestBody", {}))


def _route(route: _Route, schemas: Mapping[str, Json]) -> str:
    parts = [f"## {route.name}", _wrapped(route.contract["description"])]
    if parameters := route.contract.get("parameters"):
        parts.append("\n".join(_parameters(parameters, schemas)))
    body = _first_schema(_asked(route))
    if body:
        parts.append(f"Body: {_type(body, schemas)}.")
    answer = route.contract["responses"]["200"]
    [media_type] = answer["content"]
    told = _type(_first_schema(answer), schemas)
    kind = "[events](#events-of-a-stream)" if media_type == "text/event-stream" else told
    parts.append(f"Answer: {kind}, as `{media_type}`.")
    errors = sorted(status for status in route.contract["responses"] if status >= "400")
    parts.append(f"[Errors](#errors): {', '.join(errors)}.")
    parts.append(textwrap.indent(_curl(route, body, schemas), "    "))
    return "\n\n".join(parts)


def _first_schema(described: Json) -> Json:
    """Returns the schema of a body or a response; an empty one if there is none."""
    return next((cast(Json, one.get("schema", {})) for one in described.get("content", {}).values()), {})


def _parameters(parameters: list[Json], schemas: Mapping[str, Json]) -> Iterator[str]:
    yield from ("| parameter | in | type | default | meaning |", "|---|---|---|---|---|")
    for one in parameters:
        kind, default = _type(one["schema"], schemas), _default(one["schema"], one["required"])
        yield f"| `{one['name']}` | {one['in']} | {kind} | {default} | {table_cell(one['description'])} |"


def _curl(route: _Route, body: Json, schemas: Mapping[str, Json]) -> str:
    unbuffered = "N" if "text/event-stream" in route.contract["responses"]["200"]["content"] else ""
    command = f"curl -s{unbuffered} localhost:8700{route.path}"
    if not body:
        return command
    example = schemas[body["$ref"].removeprefix(REF)]["examples"][0]
    content = json.dumps(example, indent=2, ensure_ascii=False)
    return f"{command} -H 'Content-Type: application/json' -d {shlex.quote(content)}"


def _errors(routes: list[_Route]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for route in routes:
        for status, answer in route.contract["responses"].items():
            if status >= "400":
                found.setdefault((status, answer["description"]), []).append(route.name)
    whole = {"all": [route.name for route in routes]}
    whole["every `POST`"] = [route.name for route in routes if route.method == "post"]
    lines = ["| status | title | meaning | routes |", "|---|---|---|---|"]
    for (status, meaning), names in sorted(found.items()):
        listed = ", ".join(f"`{name}`" for name in names)
        where = next((title for title, group in whole.items() if names == group), listed)
        lines.append(f"| {status} | {HTTPStatus(int(status)).phrase} | {meaning} | {where} |")
    return "\n".join(lines)


def _records(part: Any, schemas: Mapping[str, Json]) -> Iterator[str]:
    """Yields the names of the records that a part of the contract refers to, each before those inside it."""
    if isinstance(part, list):
        for one in part:
            yield from _records(one, schemas)
    elif isinstance(part, Mapping):
        name = str(part.get("$ref", "")).removeprefix(REF)
        if "properties" in schemas.get(name, {}):
            yield name
            yield from _records(schemas[name]["properties"], schemas)
        yield from _records(list(part.values()), schemas)


def _record(title: str, schema: Json, schemas: Mapping[str, Json], *, has_defaults: bool) -> str:
    lines = [f"### {title}", "", _wrapped(schema["description"]), ""]
    header = ["field", "type", *(["default"] if has_defaults else []), "meaning"]
    lines += [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, field in schema["properties"].items():
        default = [_default(field, name in schema.get("required", ()))] if has_defaults else []
        cells = [f"`{name}`", _type(field, schemas), *default, table_cell(field["description"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _type(schema: Json, schemas: Mapping[str, Json]) -> str:
    match schema:
        case {"$ref": str(ref)}:
            name = ref.removeprefix(REF)
            known = schemas[name]
            return f"[{name}](#{name.lower()})" if "properties" in known else _type(known, schemas)
        case {"anyOf": list(kinds)}:
            return " or ".join(_type(kind, schemas) for kind in kinds)
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"type": "array"}:
            kind = f"list of {_type(schema['items'], schemas)}" if schema.get("items") else "list"
        case {"type": "object", "additionalProperties": {"type": str(value)}}:
            kind = f"object of {_TYPES.get(value, value)}"
        case _:
            kind = _TYPES.get(str(schema.get("type")), str(schema.get("type")))
    bounds = [text.format(schema[name]) for name, text in _BOUNDS.items() if name in schema]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _default(schema: Json, is_required: bool) -> str:
    return NEEDED if is_required else f"`{json.dumps(schema.get('default'))}`"


def _wrapped(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(textwrap.fill(part, LINE_CHARS, break_on_hyphens=False) for part in paragraphs)


if __name__ == "__main__":
    print(http_reference(), end="")
