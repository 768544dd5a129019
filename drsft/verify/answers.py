"""The answer of a reference: what problem loading asks before a problem is worth any work."""

from drsft.verify.maths.judge import reference_answer

__all__ = ["parse_reference"]


def parse_reference(reference: str, kind: str) -> str | None:
    """The answer that a reference states, or None where no verifier of `kind` could read it (quarantine)."""
    if kind == "math":
        return reference_answer(reference)
    return reference.strip() or None
