"""The choices made for a configuration, with their reasons."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Choice", "Draft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    key: str  # of the configuration
    value: Any
    reason: str
    is_told: bool = True  # whether the table and the comments show it


class Draft:
    """An unfinished configuration: a tree of keys, filled one choice after another."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree
        self.choices: list[Choice] = []

    def choose(self, key: str, value: Any, reason: str, *, is_told: bool = True) -> None:
        """Sets a dotted key, such as "target.dtype"; the reason is shown to the user if `is_told`."""
        node = self.tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
        line = " ".join(reason.split())
        self.choices.append(Choice(key=key, value=value, reason=line, is_told=is_told))

    @property
    def comments(self) -> dict[str, str]:
        """The reasons that are shown to the user, by key."""
        return {one.key: one.reason for one in self.choices if one.is_told}
