"""Reads a YAML file and KEY=VALUE overrides into a RunConfig.

Each mistake is reported as one line that names its key.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from drsft.config import RunConfig
from drsft.config.yamlfile import NotYamlError, read_yaml
from drsft.errors import ConfigError

__all__ = ["load_config", "load_settings", "settings_of"]

Settings = TypeVar("Settings", bound=BaseModel)

MAX_CONFIG_BYTES = 256 << 10


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Returns the run's configuration in the YAML file `path`, changed by the overrides.

    An override is KEY=VALUE, as in `train.seeds=[0,1]`. Raises ConfigError if the file cannot be read, or if
    a key or a value is wrong.
    """
    return load_settings(RunConfig, path, overrides)


def load_settings(schema: type[Settings], path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Reads `path` and applies overrides like `load_config`, but returns settings of the class `schema`."""
    tree = _read(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys such as problems and target, found {type(tree).__name__}")
    return settings_of(schema, tree, overrides, source=str(path))


def settings_of(
    schema: type[Settings], tree: dict[str, Any], overrides: Iterable[str] = (), *, source: str
) -> Settings:
    """Applies the overrides to `tree`, which changes it, and returns it as settings of the class `schema`.

    Raises ConfigError with one line for each wrong key. These lines begin with `source`.
    """
    for override in overrides:
        _apply(tree, override)
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            *(f"{source}: {_describe(one, tree, schema)}" for one in _first_of_each(error, tree))
        ) from error


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: {reason}; give the path of a YAML configuration") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: more than {MAX_CONFIG_BYTES >> 10} KiB, too large for a configuration")
    try:
        return read_yaml(data.decode("utf-8"))
    except (NotYamlError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the file is not YAML: {error}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: write KEY=VALUE, for example train.learning_rate=1e-4")
    try:
        value = read_yaml(text)
    except NotYamlError as error:
        raise ConfigError(f"override {override!r:.200}: the value is not YAML: {error}") from error
    node: Any = tree
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(
            f"override {override!r}: {last!r} cannot be set, since the key before it holds a value, not keys"
        )


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, override)]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise ConfigError(
        f"override {override!r}: {part!r} cannot be set, since the key before it holds a value, not keys"
    )


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"override {override!r}: {part!r} is not an index of a list of {len(node)} items")
    return int(part)


def _describe(error: ErrorDetails, tree: Mapping[str, Any], schema: type[BaseModel]) -> str:
    key = _key(error["loc"], tree) or "the configuration"
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{_suggestion(str(error['loc'][-1]), schema)}"
        case "missing":
            return f"{key}: the key is missing, and it has no default"
        case "value_error":
            return f"{key}: {error['msg'].removeprefix('Value error, ')}"
        case "int_parsing" | "float_parsing" | "bool_parsing":
            expected = {"i": "an integer", "f": "a number", "b": "true or false"}[error["type"][0]]
            return f"{key}: expected {expected}, got {error['input']!r:.80}"
        case _:
            expected = error["msg"].replace("Input should be", "expected").replace("a valid ", "a ")
            expected = expected.replace("a integer", "an integer").replace("a tuple", "a list")
            return f"{key}: {expected}, got {error['input']!r:.80}"


def _first_of_each(error: ValidationError, tree: Mapping[str, Any]) -> list[ErrorDetails]:
    """Returns the first error of each key: pydantic also reports the keys above it, less precisely."""
    told: list[str] = []
    kept = []
    for one in error.errors():
        key = _key(one["loc"], tree)
        if not any(other.startswith(f"{key}.") or other == key for other in told):
            told.append(key)
            kept.append(one)
    return kept


def _key(location: tuple[int | str, ...], tree: Any) -> str:
    """Returns the key as the user wrote it, without the names of union members that pydantic adds."""
    parts: list[str] = []
    for i, part in enumerate(location):
        is_written = (isinstance(tree, dict) and part in tree) or (
            isinstance(tree, list) and part in range(len(tree))
        )
        if is_written:
            tree = tree[part]
        elif i < len(location) - 1 or not isinstance(tree, dict):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _suggestion(key: str, settings: type[BaseModel]) -> str:
    schema = settings.model_json_schema()
    known = {name for one in (schema, *schema["$defs"].values()) for name in one.get("properties", ())}
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
