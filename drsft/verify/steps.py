"""Check the steps beside the answer: does every equation that a solution asserts, and that can be read, hold?

A model that copied its answer from a guide writes equations that do not hold (METHODS: right box, wrong
steps). This check is numeric and conservative. It reads arithmetic in prose ("3 boxes x 12 eggs = 36 eggs"),
chains (a = b = c), mathematics between dollar signs, and equations in variables to which the text gives one
value. It leaves alone what it cannot read and what is only supposed (if, suppose, contradiction), and it
allows rounding, percent, money and the usual units. Pure: no process, no clock, linear in the text's length.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from drsft.records import Outcome, Verdict
from drsft.verify.maths.evaluate import Agreement as Finding
from drsft.verify.maths.evaluate import (
    NotANumberError,
    TooLargeError,
    exact,
    free_symbols,
    same_function,
    value_at,
)
from drsft.verify.maths.judge import judge_math
from drsft.verify.maths.lexer import UnreadableError
from drsft.verify.maths.reader import read
from drsft.verify.maths.scalars import is_scalar
from drsft.verify.maths.surface import clean
from drsft.verify.maths.syntax import Call, Chain, Node, Num, Quantity, Sym, symbols_of
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["StepReport", "check_steps", "judge_math_with_steps", "judge_steps", "report_of"]

MAX_CHARS = 50_000
MAX_EQUATION_CHARS = 400
MAX_LINE_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """How many equations were read, how many of them fail, and the first that does, as written."""

    num_read: int
    num_failed: int
    first_failure: str | None = None

    @property
    def holds(self) -> bool:
        return self.num_failed == 0


def check_steps(text: str) -> StepReport:
    """Every readable equation of the text, checked. Never raises on any text."""
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
Checked = tuple[int, str, bool]  # where it stands, as written, whether it holds
Values = dict[str, Fraction]


def _checked(text: str, values: Values) -> Iterator[Checked]:
    prose = text
    for match in _MATH.finditer(text):
        content = match.group()
        prose = prose[: match.start()] + _BLANK * len(content) + prose[match.end() :]
        if not _is_supposed(text, match.start(), match.end(), _SUPPOSING_SYMBOLS):
            yield from _in_mathematics(content, match.start())
    yield from _in_prose(prose, values)


# --- context -----------------------------------------------------------------------------------------------

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
    """Whether the sentence around an equation states it under a hypothesis. 2 + 2 = 4 even if x is 3."""
    window_start = max(0, start - 300)
    before = _SENTENCE.split(text[window_start:start])[-1]
    after = _SENTENCE.split(text[end : end + 200])[0]
    return supposing.search(before) is not None or supposing.search(text[start:end] + after) is not None


# --- prose: a line's tokens, and the arithmetic on both sides of an equals sign ----------------------------

_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|(?P<word>[A-Za-z][A-Za-z'’-]*)"
    r"|(?P<operator>[-+*/×÷·^−–])|(?P<equals>=)|(?P<open>\()|(?P<close>\))|(?P<percent>%)|(?P<money>[$€£¢])"
    r"|(?P<other>[^\s])"
)
_WORD_OPERATORS = {"x": "*", "X": "*", "of": "*", "times": "*", "plus": "+", "minus": "-"}
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
MAX_WORDS = 7  # after a number: "3 large red boxes x 2"
MAX_OPERANDS = 12


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Side:
    """operands[0] operators[0] operands[1] ...; an operand has its brackets, sign and percent."""

    operands: tuple[str, ...]
    operators: tuple[str, ...]
    words: frozenset[str]  # its units
    start: int
    end: int


def _tokens(line: str) -> list[Token]:
    tokens = _joined([Token(m.lastgroup or "", m.group(), m.start(), m.end()) for m in _TOKEN.finditer(line)])
    for index, token in enumerate(tokens):
        if token.kind == "word" and token.text in _WORD_OPERATORS and 0 < index < len(tokens) - 1:
            before, after = tokens[index - 1], tokens[index + 1]
            is_between = before.kind in _ENDS and after.kind in ("number", "open", "money")
            is_part = token.text != "of" or before.kind in ("number", "percent")
            if is_between and is_part:
                tokens[index] = Token("operator", _WORD_OPERATORS[token.text], token.start, token.end)
        elif token.kind == "operator":
            tokens[index] = Token("operator", _SIGNS.get(token.text, token.text), token.start, token.end)
    return tokens


def _joined(tokens: list[Token]) -> list[Token]:
    """350 000 is one number, 2 1/2 another, and 2(3 + 4) a product."""
    kept: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        last = kept[-1] if kept else None
        following = tokens[index + 1 : index + 3]
        if _is_fraction(kept, token):
            written = f"({kept[-2].text}/{token.text})"
            kept[-2:] = [Token("number", written, kept[-2].start, token.end)]
        elif (
            token.text == "/"
            and last is not None
            and last.kind == "word"
            and following
            and following[0].kind == "word"
        ):
            kept[-1] = Token("word", f"{last.text}/{following[0].text}", last.start, following[0].end)
            index += 1
        elif token.kind == "number" and last is not None and last.kind == "number":
            if len(token.text) == 3 and last.text.isdigit() and token.text.isdigit():
                kept[-1] = Token("number", last.text + token.text, last.start, token.end)
            elif len(following) == 2 and following[0].text == "/" and following[1].kind == "number":
                written = f"({last.text}+{token.text}/{following[1].text})"
                kept[-1] = Token("number", written, last.start, following[1].end)
                index += 2
            else:
                kept.append(token)
        elif (
            last is not None
            and (token.kind, last.kind) in (("open", "number"), ("open", "close"), ("number", "close"))
            and token.start == last.end
        ):
            kept += [Token("operator", "*", token.start, token.start), token]
        else:
            kept.append(token)
        index += 1
    return kept


def _is_fraction(kept: list[Token], token: Token) -> bool:
    """1/2 written tight is one number: "1 1/2 / 1/2" is 3."""
    if len(kept) < 2 or not token.text.isdigit():
        return False
    slash, numerator = kept[-1], kept[-2]
    is_tight = numerator.end == slash.start and slash.end == token.start
    return slash.text == "/" and is_tight and numerator.text.isdigit()


_ENDS = ("number", "word", "close", "percent", "money")  # what an operand may end in


def _in_prose(text: str, values: Values) -> Iterator[Checked]:
    for match in re.finditer(r"[^\n\x00]+", text):
        line = match.group()[:MAX_LINE_CHARS]
        if "=" not in line:
            continue
        tokens = _tokens(line)
        for index, token in enumerate(tokens):
            if token.kind != "equals":
                continue
            left, right = _side_before(tokens, index), _side_after(tokens, index)
            if left is not None and right is not None:
                start, end = match.start() + left.start, match.start() + right.end
                finding = _same_arithmetic(left, right, line)
                if finding is not None and not _is_supposed(text, start, end, _SUPPOSING_NUMBERS):
                    yield start, text[start:end], finding
            else:
                yield from _algebra(tokens, index, line, match.start(), values)


def _side_before(tokens: list[Token], equals: int) -> Side | None:
    """The longest expression that ends at an equals sign."""
    operands: list[str] = []
    operators: list[str] = []
    words: set[str] = set()
    end = equals
    while len(operands) < MAX_OPERANDS:
        start = _operand_start(tokens, end, words)
        if start is None:
            break
        operands.insert(0, _written(tokens[start:end]))
        end = _over_words(tokens, start)
        if end == 0 or tokens[end - 1].kind != "operator":
            end = start
            break
        operators.insert(0, tokens[end - 1].text)
        end -= 1
        if end and not _may_be_cut_before(tokens, end):
            return None  # X*6 + 9, (7*V) + 20: the rest alone asserts nothing
    if operands and (end == 0 or tokens[end].kind != "operator") and _is_juxtaposed(tokens, end):
        return None
    operators = operators[-(len(operands) - 1) :] if len(operands) > 1 else []
    if not operands:
        return None
    first = end if len(operators) == len(operands) - 1 and tokens[end].kind != "operator" else end + 1
    return Side(
        tuple(operands), tuple(operators), frozenset(words), tokens[first].start, tokens[equals].start
    )


def _may_be_cut_before(tokens: list[Token], end: int) -> bool:
    """Whether what stands before the operator tokens[end] can be read on, or is prose and it a dash."""
    before, operator = tokens[end - 1], tokens[end]
    if before.kind == "word":
        is_readable = _operand_start(tokens, end, set()) is not None
        return is_readable or (operator.text == "-" and not _is_variable(tokens, end - 1))
    return before.kind != "other" and _operand_start(tokens, end, set()) is not None


def _over_words(tokens: list[Token], start: int) -> int:
    """Back over the words of "25 mates + his 1 teacher", to just after the operator; else `start`."""
    index = start
    while (
        index and tokens[index - 1].kind == "word" and start - index < 2 and len(tokens[index - 1].text) > 1
    ):
        index -= 1
    is_after_operator = index and tokens[index - 1].kind == "operator" and tokens[index - 1].text != "-"
    return index if is_after_operator else start


def _operand_start(tokens: list[Token], end: int, words: set[str]) -> int | None:
    """Where the operand that ends before `end` begins: brackets, up to MAX_WORDS words, then its number."""
    index, num_words = end - 1, 0
    while index >= 0 and tokens[index].kind in ("word", "close", "percent", "money"):
        if tokens[index].kind == "word":
            num_words += 1
            if num_words > MAX_WORDS or _is_variable(tokens, index):
                return None
        if tokens[index].kind != "close":
            words.add(tokens[index].text)
        index -= 1
    if index < 0 or tokens[index].kind != "number" or _is_coefficient(tokens, index):
        return None
    while index > 0:
        before = tokens[index - 1]
        is_sign = before.text == "-" and (index < 2 or tokens[index - 2].kind not in _ENDS)
        if before.kind not in ("open", "money") and not is_sign:
            break
        if before.kind == "money":
            words.add(before.text)
        index -= 1
    return index


def _side_after(tokens: list[Token], equals: int) -> Side | None:
    """The longest expression that begins at an equals sign."""
    operands: list[str] = []
    operators: list[str] = []
    words: set[str] = set()
    index = equals + 1
    end = index
    while index < len(tokens) and len(operands) < MAX_OPERANDS:
        start = index
        while index < len(tokens) and (tokens[index].kind in ("open", "money") or tokens[index].text == "-"):
            if tokens[index].kind == "money":
                words.add(tokens[index].text)
            index += 1
        if index == len(tokens) or tokens[index].kind != "number" or _is_coefficient(tokens, index):
            break
        index += 1
        num_words = 0
        while index < len(tokens) and tokens[index].kind in ("word", "close", "percent", "money"):
            if tokens[index].kind == "word":
                num_words += 1
                if num_words > MAX_WORDS:
                    break
            if tokens[index].kind != "close":
                words.add(tokens[index].text)
            index += 1
        operands.append(_written(tokens[start:index]))
        end = index
        if index == len(tokens) or tokens[index].kind != "operator":
            break
        operators.append(tokens[index].text)
        index += 1
        if index < len(tokens) and tokens[index].kind == "word" and _is_variable(tokens, index):
            return None
    if not operands or any(operand.count("(") != operand.count(")") for operand in operands[-1:]):
        return None
    return Side(
        tuple(operands),
        tuple(operators[: len(operands) - 1]),
        frozenset(words),
        tokens[equals + 1].start,
        tokens[end - 1].end,
    )


def _is_variable(tokens: list[Token], index: int) -> bool:
    """A single letter that is no article and no pronoun."""
    return len(tokens[index].text) == 1 and tokens[index].text not in "aAI"


def _is_juxtaposed(tokens: list[Token], start: int) -> bool:
    """An operand that something unread stands right before: a variable, a number, a bracket's end."""
    before = tokens[start - 1] if start else None
    if before is None or tokens[start].kind == "operator":
        return False
    if before.kind == "other" and before.end == tokens[start].start:
        return True  # 6:00, 16,0000, a_1
    return before.kind in ("number", "close") or (before.kind == "word" and _is_variable(tokens, start - 1))


def _is_coefficient(tokens: list[Token], index: int) -> bool:
    """The 2 of 2x: algebra, which is read elsewhere."""
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return (
        following is not None
        and following.kind == "word"
        and len(following.text) == 1
        and following.start == tokens[index].end
    )


def _written(tokens: list[Token]) -> str:
    return "".join(
        t.text.replace(",", "")
        for t in tokens
        if t.kind in ("number", "open", "close", "percent") or t.text == "-"
    )


def _same_arithmetic(left: Side, right: Side, line: str) -> bool | None:
    """None: not read. Any sensible reading that holds will do: the writer is not a compiler.

    "each of the 3 boxes - 5 x 2 = 10" is about 5 x 2, and "5 x 4 = 20 + 3 = 23" runs on, as school does.
    """
    if not left.operators and "/" not in left.operands[0]:
        return None  # "12 eggs = 1 dozen" is no arithmetic
    num_left, num_right = len(left.operands), len(right.operands)
    lefts = [_value(left, start, num_left) for start in range(max(1, num_left - 1))]
    rights = [_value(right, 0, end) for end in range(num_right, 0, -1)]
    if not any(lefts) or not any(rights):
        return None
    for first in (value for values in lefts for value in values):
        for second in (value for values in rights for value in values):
            if _near(first, second, right.operands[0]) or _is_conversion(first, second, left, right):
                return True
    return False


def _value(side: Side, start: int, end: int) -> list[Fraction]:
    """The value of some of a side's operands, with percent as a hundredth and as a mere sign."""
    expression = side.operands[start]
    for operator, operand in zip(
        side.operators[start : end - 1], side.operands[start + 1 : end], strict=True
    ):
        expression += f" {operator} {operand}"
    # A bracket that prose opened earlier or closes later is not ours.
    while expression.count("(") > expression.count(")") and "(" in expression:
        expression = expression.replace("(", "", 1)
    while expression.count(")") > expression.count("(") and expression.endswith(")"):
        expression = expression[:-1]
    found = []
    for percent in ("/100", "") if "%" in expression else ("",):
        try:
            value = exact(read(expression.replace("%", percent)))
        except UnreadableError:
            continue
        if value is not None:
            found.append(value)
    return found


def _near(value: Fraction, written: Fraction, text: str) -> bool:
    """Equal, or `written` rounds `value` at its last written place; a whole number may also cut it off."""
    difference = abs(value - written)
    if difference == 0:
        return True
    decimals = re.findall(r"\.(\d+)", text)
    if decimals:
        return bool(difference <= Fraction(11, 10) / 10 ** len(decimals[0]))
    return value.denominator != 1 and difference < 1 and written != 0


_FACTORS = frozenset(Fraction(n) for n in (7, 12, 16, 24, 30, 36, 52, 60, 100, 365, 1000, 3600, 5280))


def _is_conversion(value: Fraction, written: Fraction, left: Side, right: Side) -> bool:
    """ "4 x 30 minutes = 2 hours", "8 x 25 cents = $2": known factors, where the sides name other units."""
    if not value or not written or not right.words or right.words <= left.words:
        return False
    ratio = value / written
    return ratio in _FACTORS or 1 / ratio in _FACTORS


# --- algebra: variables to which the text gives one value --------------------------------------------------

_ASSIGNMENT = re.compile(
    r"(?<![\w=+*/^.)}-])(?<![=+*/^-]\s)([A-Za-z])[ \t]*=[ \t]*\$?(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)"
    r"(?![\w^(+*/-]|\s*[-+*/^x(=]|\.\d)"
)
_ALGEBRAIC = ("number", "operator", "open", "close", "money")


def _assigned_values(text: str) -> Values:
    """Symbols that the text sets equal to one number, and to no other."""
    values: dict[str, set[Fraction]] = {}
    for name, number in _ASSIGNMENT.findall(text.replace("\\$", "")):
        head, _, tail = number.replace(",", "").partition("/")
        if tail and not int(tail):
            continue
        values.setdefault(name, set()).add(Fraction(head) / (Fraction(tail) if tail else 1))
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}


def _algebra(tokens: list[Token], equals: int, line: str, offset: int, values: Values) -> Iterator[Checked]:
    """ "2E + 3 = 45" where the text says E = 21."""
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
        node = read(clean(written.replace("$", "")))
    except UnreadableError:
        return
    if isinstance(node, Chain):
        yield from _check_chain(node, written, offset + begin, values)


def _is_algebraic(token: Token) -> bool:
    return token.kind in _ALGEBRAIC or (token.kind == "word" and len(token.text) == 1)


# --- mathematics between dollar signs ----------------------------------------------------------------------

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
            statements[-1] += " " + row  # the chain goes on in the next row
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
    """Read side by side, so that one unreadable side costs only its own two steps."""
    if re.search(r"[<>≤≥≈]|\\(?:le|ge|lt|gt|ne|approx|equiv|sim|in|mid|pm|mp)(?![a-z])|!=|:=", part):
        return
    written = [side.strip(" .,;:") for side in part.split("=")]
    sides: list[Node | None] = []
    for side in written:
        try:
            node = read(clean(side))
        except UnreadableError:
            sides.append(None)
            continue
        sides.append(node if is_scalar(node) else None)
    for index in range(len(sides) - 1):
        left, right = sides[index], sides[index + 1]
        if left is not None and right is not None:
            chain = Chain((left, right), ("=",))
            yield from _check_chain(chain, f"{written[index]} = {written[index + 1]}", position, {})


def _check_chain(chain: Chain, written: str, position: int, values: Values) -> Iterator[Checked]:
    if set(chain.ops) != {"="}:
        return
    for left, right in pairwise(chain.sides):
        finding = _check_pair(left, right, values)
        if finding is not None:
            yield position, written, finding


def _check_pair(left: Node, right: Node, values: Values) -> bool | None:
    """True and False are findings; None leaves the step alone."""
    if isinstance(left, Quantity) and isinstance(right, Quantity) and left.unit != right.unit:
        return None
    left, right = (side.value if isinstance(side, Quantity) else side for side in (left, right))
    if isinstance(left, Sym) or isinstance(right, Sym):
        return None  # a definition: x = 5, e = 1/2
    if _has_unknown(left) or _has_unknown(right):
        return None
    names = (free_symbols(left) | free_symbols(right)) - {"dots"}
    if "dots" in symbols_of(left) | symbols_of(right) or {"e", "i"} & set(values):
        return None
    try:
        if not names:
            return _same_number(left, right)
        if names <= set(values) and all(len(name) == 1 for name in names):
            return _same_number(_substituted(left, values), _substituted(right, values))
        # An equation in unknowns may hold under conditions that the text gives elsewhere: only an identity is
        # a finding. (Demanding it of every step in long chains gave 3 % false alarms on MATH-500.)
        return True if same_function(left, right) is Finding.SAME else None
    except TooLargeError:
        return None


def _same_number(left: Node, right: Node) -> bool | None:
    try:
        first, second = value_at(left, {}), value_at(right, {})
    except NotANumberError:
        return None
    scale = max(abs(first), abs(second), 1e-12)
    if abs(first - second) <= 1e-9 * scale:
        return True
    for side, value in ((right, first), (left, second)):
        places = _places(side)
        if places is not None:
            return bool(abs(first - second) <= 1.1 * 10.0**-places)
        if (
            isinstance(side, Call)
            and side.name == "%"
            and abs(value - 100 * value_at(side, {})) <= 1e-9 * abs(value)
        ):
            return True
    return False


def _places(node: Node) -> int | None:
    """The decimal places that a side is written with; the fewest of its numbers."""
    if isinstance(node, Num):
        return node.places
    if isinstance(node, Call):
        found = [places for item in node.args if (places := _places(item)) is not None]
        return min(found) if found else None
    return None


def _has_unknown(node: Node) -> bool:
    """An unknown function's value, a ratio or a number in another base: nothing to compute with."""
    if not isinstance(node, Call):
        return not isinstance(node, Num | Sym)
    if node.name.startswith("apply ") or node.name in (
        "ratio",
        "base",
        "mod",
        "pm",
        "mp",
        "union",
        "minus",
        "!!",
    ):
        return True
    return any(_has_unknown(item) for item in node.args)


def _substituted(node: Node, values: Values) -> Node:
    match node:
        case Sym(name) if name in values:
            return Num(values[name])
        case Call(name, arguments):
            return Call(name, tuple(_substituted(item, values) for item in arguments))
    return node


def judge_steps(case: Case, options: VerifyOptions) -> Verdict:
    """The check as a verdict: CORRECT when all that was read holds, NO_ANSWER when nothing was read."""
    report = check_steps(case.text)
    if not report.num_read:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no equation read")
    outcome = Outcome.CORRECT if report.holds else Outcome.WRONG
    reason = f"{report.num_failed} of {report.num_read} equations fail"
    return Verdict(outcome=outcome, reason=reason, answer=report.first_failure)


def report_of(verdict: Verdict) -> StepReport:
    """The report behind a verdict of `judge_steps`; the worker's words are the only thing that crosses."""
    counts = re.fullmatch(r"(\d+) of (\d+) equations fail", verdict.reason)
    if counts is None:
        return StepReport(num_read=0, num_failed=0)
    return StepReport(num_read=int(counts[2]), num_failed=int(counts[1]), first_failure=verdict.answer)


def judge_math_with_steps(case: Case, options: VerifyOptions) -> Verdict:
    """CORRECT only if the answer is right and no equation that was read fails."""
    verdict = judge_math(case, options)
    if not verdict.is_correct:
        return verdict
    report = check_steps(case.text)
    if report.holds:
        return Verdict(outcome=verdict.outcome, reason=f"{verdict.reason}; steps hold", answer=verdict.answer)
    return Verdict(
        outcome=Outcome.WRONG,
        reason=f"right answer, but {report.num_failed} of {report.num_read} equations fail",
        answer=report.first_failure,
    )
