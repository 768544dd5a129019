"""The type of a report sentence."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, with details for a careful reader."""

    sentence: str
    detail: str = ""
