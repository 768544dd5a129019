"""Reads arithmetic in prose: a line's tokens, and the expressions on both sides of an equals sign.

"3 large boxes x 12 eggs = 36 eggs": words after a number are its units, x between numbers is times, and the
expression ends at the first token that is neither.
"""

import re
from dataclasses import dataclass

__all__ = ["MAX_CHARS", "MAX_LINE_CHARS", "Side", "Token", "side_after", "side_before", "tokens_of"]

_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|(?P<word>[A-Za-z][A-Za-z'’-]*)"
    r"|(?P<operator>[-+*/×÷·^−–])|(?P<equals>=)|(?P<open>\()|(?P<close>\))|(?P<percent>%)|(?P<money>[$€£¢])"
    r"|(?P<other>[^\s])"
)
_SEPARATORS = (";", "→", "⇒")  # they end an equation even without a space: 3*4=12;47-12=35
_WORD_OPERATORS = {"x": "*", "X": "*", "of": "*", "times": "*", "plus": "+", "minus": "-"}
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
MAX_CHARS = 50_000  # of a text that is read
MAX_LINE_CHARS = 2_000
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
    """One side of an equation: operands[0] operators[0] operands[1] and so on.

    An operand includes its brackets, its sign and its percent sign.
    """

    operands: tuple[str, ...]
    operators: tuple[str, ...]
    words: frozenset[str]  # its units
    start: int
    end: int


def tokens_of(line: str) -> list[Token]:
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
    """Returns the tokens, some of them joined: 350 000 and 2 1/2 are one number each, and 2(3 + 4) is a
    product.
    """
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
    """Returns whether 1/2 is written tightly and so is one number: "1 1/2 / 1/2" is 3."""
    if len(kept) < 2 or not token.text.isdigit():
        return False
    slash, numerator = kept[-1], kept[-2]
    is_tight = numerator.end == slash.start and slash.end == token.start
    return slash.text == "/" and is_tight and numerator.text.isdigit()


_ENDS = ("number", "word", "close", "percent", "money")  # what an operand may end in


def side_before(tokens: list[Token], equals: int) -> Side | None:
    """Returns the longest expression that ends before the equals sign tokens[equals]; None if there is
    none.
    """
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
    """Returns whether an expression may begin after the operator tokens[end], as after a dash in prose."""
    before, operator = tokens[end - 1], tokens[end]
    if before.kind == "word":
        is_readable = _operand_start(tokens, end, set()) is not None
        return is_readable or (operator.text == "-" and not _is_variable(tokens, end - 1))
    return before.kind != "other" and _operand_start(tokens, end, set()) is not None


def _over_words(tokens: list[Token], start: int) -> int:
    """Returns the index after the operator before the words of "25 mates + his 1 teacher"; else `start`."""
    index = start
    while (
        index and tokens[index - 1].kind == "word" and start - index < 2 and len(tokens[index - 1].text) > 1
    ):
        index -= 1
    is_after_operator = index and tokens[index - 1].kind == "operator" and tokens[index - 1].text != "-"
    return index if is_after_operator else start


def _operand_start(tokens: list[Token], end: int, words: set[str]) -> int | None:
    """Returns where the operand before `end` begins: brackets, up to MAX_WORDS words, then its number."""
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


def side_after(tokens: list[Token], equals: int) -> Side | None:
    """Returns the longest expression that begins after the equals sign tokens[equals]; None if there is
    none.
    """
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
    """Returns whether a token is a single letter that is no article and no pronoun."""
    return len(tokens[index].text) == 1 and tokens[index].text not in "aAI"


def _is_juxtaposed(tokens: list[Token], start: int) -> bool:
    """Returns whether an unread token is right before the operand: a variable, a number, a bracket's end."""
    before = tokens[start - 1] if start else None
    if before is None or tokens[start].kind == "operator":
        return False
    if before.kind == "other" and before.text not in _SEPARATORS and before.end == tokens[start].start:
        return True  # 6:00, 16,0000, a_1
    return before.kind in ("number", "close") or (before.kind == "word" and _is_variable(tokens, start - 1))


def _is_coefficient(tokens: list[Token], index: int) -> bool:
    """Returns whether a number is the 2 of 2x, which is algebra and read elsewhere."""
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
