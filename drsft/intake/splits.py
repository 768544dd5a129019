"""Finds by its name which split (train, validation, test) a file or a key holds."""

import re

__all__ = ["split_of", "wanted_splits"]

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_WORD = re.compile(r"[^A-Za-z]+")


def split_of(name: str) -> str | None:
    """Returns the split that the name mentions, the last one of several; None if it mentions none.

    In a path, the file's name decides before its folders.
    """
    for part in reversed(name.split("/")):
        found = [_NAMES[word] for word in _WORD.split(part.lower()) if word in _NAMES]
        if found:
            return found[-1]
    return None


def wanted_splits(split: str) -> frozenset[str]:
    """Returns the splits that a setting asks for: "train" and "validation" for "train+dev"."""
    return frozenset(_NAMES.get(part.strip().lower(), part.strip().lower()) for part in split.split("+"))
