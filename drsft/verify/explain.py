"""Explains a verdict: the text taken from the reference and from the answer, where it was found, how it was
parsed, and the rule that decided.
"""

from dataclasses import dataclass

from drsft.records import Verdict
from drsft.verify.case import Case
from drsft.verify.choice.offered import letters_of, options_of
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.extraction.thoughts import after_thoughts
from drsft.verify.maths import syntax
from drsft.verify.maths.answer import readings_of, type_of
from drsft.verify.maths.normalise import clean
from drsft.verify.options import VerifyOptions

__all__ = ["Side", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The reference or the answer as it was parsed; `place` is "reference", or where the answer was found."""

    place: str
    text: str
    type: str  # an AnswerType's value, "letters", or "not read"
    read_as: tuple[str, ...]  # the trees that the text may mean, the usual one first


def explain(case: Case, verdict: Verdict, options: VerifyOptions) -> tuple[Side, Side | None, str]:
    """Returns the parsed reference, the parsed answer (None if none was found), and the deciding rule."""
    offered = options_of(case.question) if case.kind == "choice" else {}
    reference = reference_answer(case.reference) or case.reference.strip()
    said = after_thoughts(case.text)
    found = None if said is None else find_answer(said, is_box_required=options.require_box)
    answer = None
    if case.kind == "choice" and verdict.answer is not None:
        answer = Side(place="choice", text=verdict.answer, type="letters", read_as=(verdict.answer,))
    elif found is not None:
        answer = _side(found.place, found.text, offered)
    return _side("reference", reference, offered), answer, verdict.reason


def _side(place: str, text: str, offered: dict[str, str]) -> Side:
    if offered and (letters := letters_of(text, offered)) is not None:
        return Side(place=place, text=text, type="letters", read_as=(", ".join(sorted(letters)),))
    readings = readings_of(clean(text))
    kind = type_of(readings[0]).value if readings else "not read"
    return Side(place=place, text=text, type=kind, read_as=tuple(_shown(reading) for reading in readings))


def _shown(node: syntax.Node) -> str:
    """Returns a tree in one line: operations before their arguments, units after their values."""
    match node:
        case syntax.Num(value):
            return str(value)
        case syntax.Sym(name):
            return name
        case syntax.Words(text):
            return repr(text)
        case syntax.Call(name, items):
            return f"{name}({', '.join(map(_shown, items))})"
        case syntax.Quantity(value, unit):
            return f"{_shown(value)} {'·'.join(n if p == 1 else f'{n}^{p}' for n, p in unit)}"
        case syntax.Seq(items, left, right):
            return f"{left}{', '.join(map(_shown, items))}{right}"
        case syntax.SetOf(items):
            return f"{{{', '.join(map(_shown, items))}}}"
        case syntax.Listing(items):
            return "; ".join(map(_shown, items))
        case syntax.Chain(sides, ops):
            rest = (f" {op} {_shown(side)}" for op, side in zip(ops, sides[1:], strict=True))
            return _shown(sides[0]) + "".join(rest)
        case syntax.Matrix(rows):
            return "[" + "; ".join(" ".join(map(_shown, row)) for row in rows) + "]"
        case syntax.Builder(element, conditions):
            return f"{{{_shown(element)} | {', '.join(map(_shown, conditions))}}}"
        case syntax.Said(frozenset() as labels):
            return ", ".join(sorted(labels))
        case syntax.Said(value):
            return str(value)
    raise TypeError(node)
