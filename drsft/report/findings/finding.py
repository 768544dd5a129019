"""A sentence of the report."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, and what a careful reader should know beside it."""

    sentence: str
    detail: str = ""
