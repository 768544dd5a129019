"""Reads YAML from untrusted files: plain values only, no duplicate keys, no aliases that expand to billions
of values.
"""

from typing import Any

import yaml

__all__ = ["NotYamlError", "read_yaml"]

MAX_VALUES = 20_000  # with every alias written out
MAX_DEPTH = 50


class NotYamlError(ValueError):
    """A text is not acceptable YAML; the message says why in one line."""


def read_yaml(text: str) -> Any:
    """Returns the value that a YAML text describes; None for an empty text.

    Raises NotYamlError if the text is not YAML, has a duplicate key, or is nested or expanded too far.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _num_values(node, {}, depth=0)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise NotYamlError(" ".join(str(error).split())[:300]) from error
    except RecursionError as error:
        raise NotYamlError("it is nested too deeply") from error
    except NotYamlError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # PyYAML raises Python's own errors for scalars: 2026-99-99, a number of 5,000 digits, "!!bool maybe"
        raise NotYamlError(f"a value cannot be read: {error}"[:300]) from error


def _num_values(node: yaml.Node, counted: dict[int, int], *, depth: int) -> int:
    """Returns the number of values below a node; an alias counts as what it refers to."""
    if depth > MAX_DEPTH:  # also reached if an alias refers to a node that contains it
        raise NotYamlError("it is nested too deeply")
    if id(node) not in counted:
        match node:
            case yaml.MappingNode():
                _check_keys(node)
                children = [child for pair in node.value for child in pair]
            case yaml.SequenceNode():
                children = node.value
            case _:
                children = []
        total = 1 + sum(_num_values(child, counted, depth=depth + 1) for child in children)
        if total > MAX_VALUES:
            raise NotYamlError(f"its aliases expand to more than {MAX_VALUES:,} values")
        counted[id(node)] = total
    return counted[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises NotYamlError for a duplicate key, of which PyYAML would silently keep the last."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise NotYamlError(f"line {line}: the key {key.value!r:.60} occurs twice")
            seen.add((key.tag, key.value))
