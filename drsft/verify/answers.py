"""The answer of a reference: what problem loading asks before a problem is worth any work."""

from drsft.verify.code.program import parse_tests
from drsft.verify.literal import is_pattern
from drsft.verify.maths.judge import reference_answer
from drsft.verify.numeric import parse_numeric

__all__ = ["parse_reference"]


def parse_reference(reference: str, kind: str) -> str | None:
    """The answer that a reference states, or None where no verifier of `kind` could read it (quarantine).

    Kinds that are not known here (custom ones, judges) ask for a reference that is not empty.
    """
    reference = reference.strip()
    match kind:
        case "math" | "math+steps":
            return reference_answer(reference)
        case "numeric":
            is_readable = parse_numeric(reference) is not None
        case "regex":
            is_readable = bool(reference) and is_pattern(reference)
        case "code":
            is_readable = parse_tests(reference) is not None
        case "steps":
            return reference  # it asks for none
        case _:
            is_readable = bool(reference)
    return reference if is_readable else None
