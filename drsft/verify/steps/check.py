"""Checks the steps of a solution: whether every equation holds that it asserts and that can be parsed.

A model that copied its answer from a guide writes equations that do not hold: right box, wrong steps. This
check is numeric and conservative. It reads arithmetic in prose ("3 boxes x 12 eggs = 36 eggs"), chains (a = b
= c), mathematics between dollar signs, and equations in variables to which the text gives one value. It skips
what it cannot read and what is only supposed (if, suppose, contradiction), and it allows rounding, percent,
money and the usual units. It uses no process and no clock, and is linear in the text's length.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from drsft.records import StepReport
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.parser import parse
from drsft.verify.maths.syntax import Chain, Node
from drsft.verify.maths.tokens import UnreadableError
from drsft.verify.maths.values import is_scalar
from drsft.verify.plain_number import plain_number
from drsft.verify.steps.arithmetic import same_arithmetic
from drsft.verify.steps.equations import Checked, Values, check_chain
from drsft.verify.steps.prose import MAX_CHARS, MAX_LINE_CHARS, Token, side_after, side_before, tokens_of

__all__ = ["check_steps"]

MAX_EQUATION_CHARS = 400


def check_steps(text: str) -> StepReport:
    """Checks every equation of a text that can be parsed; returns the report. No text raises an error."""
    text = text[:MAX_CHARS]
    values = _assigned_values(text)
    num_read = 0
    failures: list[tuple[int, str]] = []
    for position, written, is_holding in _checked(text, values):
        num_read += 1
        if not is_holding:
            failures.append((position, _LINKING.sub("", " ".join(written.split()))))
    failures.sort()
    first = failures[0][1] if failures else None
    return StepReport(num_read=num_read, num_failed=len(failures), first_failure=first)


_LINKING = re.compile(r"(?:\s(?:and|so|or|then|but|which|is))+$")  # words that a reading ran into


def _checked(text: str, values: Values) -> Iterator[Checked]:
    prose = text
    for match in _MATH.finditer(text):
        content = match.group()
        prose = prose[: match.start()] + _BLANK * len(content) + prose[match.end() :]
        if not _is_supposed(text, match.start(), match.end(), _SUPPOSING_SYMBOLS):
            yield from _in_mathematics(content, match.start())
    yield from _in_prose(prose, values)


_MATH = re.compile(
    r"\$\$.{1,3000}?\$\$|\\\[.{1,3000}?\\\]|\\\(.{1,3000}?\\\)|\\begin\{(?:align|equation|eqnarray|gather)\*?\}.{1,3000}?\\end\{\w+\*?\}"
    r"|(?<![\\\d])\$(?!\s*\d[\d,.]*(?:\s|[.,;)]|$))[^$\n]{1,400}?(?<!\\)\$(?!\d)",
    re.DOTALL,
)
_BLANK = "\x00"  # in place of mathematics that prose must not read on through
_SENTENCE = re.compile(r"[.!?](?=\s|$)|\n\s*\n")
_NEVER = (
    r"contradict\w*|impossible|wrong|mistake\w*|incorrect\w*|false|mod|modulo|base|instead of|not equal"
    r"|n't equal|cannot be|can't be"
)
_SUPPOSING_NUMBERS = re.compile(rf"\b(?:{_NEVER})\b|\\ne|≠|\\equiv|\\pmod|\\bmod", re.IGNORECASE)
_SUPPOSING_SYMBOLS = re.compile(
    rf"\b(?:{_NEVER}|if|suppose|supposing|assum\w+|would|not|guess|try|trying|otherwise|unless|whether|claim)"
    r"\b|\\ne|≠|\\equiv|\\pmod|\\bmod",
    re.IGNORECASE,
)


def _is_supposed(text: str, start: int, end: int, supposing: "re.Pattern[str]") -> bool:
    """Returns whether the sentence around an equation states it under a hypothesis.

    A sentence such as "2 + 2 = 4 even if x is 3" does not.
    """
    window_start = max(0, start - 300)
    before = _SENTENCE.split(text[window_start:start])[-1]
    after = _SENTENCE.split(text[end : end + 200])[0]
    return supposing.search(before) is not None or supposing.search(text[start:end] + after) is not None


def _in_prose(text: str, values: Values) -> Iterator[Checked]:
    for match in re.finditer(r"[^\n\x00]+", text):
        line = match.group()[:MAX_LINE_CHARS]
        if "=" not in line:
            continue
        tokens = tokens_of(line)
        for index, token in enumerate(tokens):
            if token.kind != "equals":
                continue
            left, right = side_before(tokens, index), side_after(tokens, index)
            if left is not None and right is not None:
                start, end = match.start() + left.start, match.start() + right.end
                finding = same_arithmetic(left, right)
                if finding is not None and not _is_supposed(text, start, end, _SUPPOSING_NUMBERS):
                    yield start, text[start:end], finding
            else:
                yield from _algebra(tokens, index, line, match.start(), values)


_ASSIGNMENT = re.compile(
    r"(?<![\w=+*/^.)}-])(?<![=+*/^-]\s)([A-Za-z])[ \t]*=[ \t]*\$?(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)"
    r"(?![\w^(+*/-]|\s*[-+*/^x(=]|\.\d)"
)
_ALGEBRAIC = ("number", "operator", "open", "close", "money")


def _assigned_values(text: str) -> Values:
    """Returns the symbols that the text sets equal to exactly one number."""
    values: dict[str, set[Fraction]] = {}
    for name, number in _ASSIGNMENT.findall(text.replace("\\$", "")):
        head, _, tail = number.partition("/")
        value, divisor = plain_number(head), plain_number(tail or "1")
        if value is not None and divisor:
            values.setdefault(name, set()).add(value / divisor)
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}


def _algebra(tokens: list[Token], equals: int, line: str, offset: int, values: Values) -> Iterator[Checked]:
    """Yields the checks of equations in variables, such as "2E + 3 = 45" where the text says E = 21."""
    if not values:
        return
    start, end = equals, equals + 1
    while start > 0 and _is_algebraic(tokens[start - 1]):
        start -= 1
    while end < len(tokens) and _is_algebraic(tokens[end]):
        end += 1
    if start == equals or end == equals + 1:
        return
    if any(token.text in "ei" for token in tokens[start:end] if token.kind == "word"):
        return  # the reader takes e and i for the constants
    begin, finish = tokens[start].start, tokens[end - 1].end
    written = line[begin:finish]
    if len(written) > MAX_EQUATION_CHARS or _is_supposed(line, begin, finish, _SUPPOSING_SYMBOLS):
        return
    try:
        node = parse(clean(written.replace("$", "")))
    except UnreadableError:
        return
    if isinstance(node, Chain):
        yield from check_chain(node, written, offset + begin, values)


def _is_algebraic(token: Token) -> bool:
    return token.kind in _ALGEBRAIC or (token.kind == "word" and len(token.text) == 1)


_ROWS = re.compile(
    r"\\(?:begin|end)\{(?:align|aligned|alignat|eqnarray|equation|gather|gathered|split|multline)\*?\}|\\[bf]box(?:ed)?"
)


def _in_mathematics(content: str, position: int) -> Iterator[Checked]:
    content = _ROWS.sub(" ", content)
    if "=" not in content or "\\begin" in content:
        return
    rows = re.split(r"\\\\(?:\[[^\]]*\])?", content)
    statements: list[str] = []
    for row in rows:
        row = row.replace("&", " ").strip(" \n\t$[]\\")
        if row.startswith("=") and statements:
            statements[-1] += " " + row  # the chain continues in the next row
        else:
            statements.append(row)
    for statement in statements:
        for part in re.split(
            r"\\(?:quad|qquad|Rightarrow|implies|Longrightarrow|iff|to|text\{[^}]*\})|;", statement
        ):
            if "=" not in part or len(part) > MAX_EQUATION_CHARS:
                continue
            yield from _equation(part, position)


def _equation(part: str, position: int) -> Iterator[Checked]:
    """Checks each pair of neighbouring sides of an equation, so that an unreadable side costs only its two
    pairs.
    """
    if re.search(r"[<>≤≥≈]|\\(?:le|ge|lt|gt|ne|approx|equiv|sim|in|mid|pm|mp)(?![a-z])|!=|:=", part):
        return
    written = [side.strip(" .,;:") for side in part.split("=")]
    sides: list[Node | None] = []
    for side in written:
        try:
            node = parse(clean(side))
        except UnreadableError:
            sides.append(None)
            continue
        sides.append(node if is_scalar(node) else None)
    for index in range(len(sides) - 1):
        left, right = sides[index], sides[index + 1]
        if left is not None and right is not None:
            chain = Chain((left, right), ("=",))
            yield from check_chain(chain, f"{written[index]} = {written[index + 1]}", position, {})
