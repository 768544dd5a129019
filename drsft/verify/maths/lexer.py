r"""Text to tokens. LaTeX, ASCII ("x**2", "sqrt(3)", "2e27") and plain words share one alphabet of tokens.

Two texts with equal tokens are equal answers: spacing, font commands, \frac12 against \frac{1}{2}, leading
zeros and the spelling of numbers are gone. A token is a pair of kind and value:

    num   Num                       sym   a symbol's name            fn    a function's name
    op    an operator or bracket    word  a word or unit             sep   a separator of answers: , ; and or
    cmd   a structural command: frac, sqrt, binom, sum, int, begin(...), end(...)
"""

import re
from fractions import Fraction

from drsft.verify.maths.syntax import Num
from drsft.verify.maths.units import is_unit
from drsft.verify.maths.vocabulary import (
    ACCENTS,
    ALIASES,
    ASCII_OPERATORS,
    ASCII_WORDS,
    ESCAPED,
    FUNCTIONS,
    MODULES,
    MULTIPLIERS,
    OPERATORS,
    PERCENT,
    SHORT_WORDS,
    STRUCTURE,
    SYMBOL_NAMES,
    TEXT,
    WORDS_AS_SEPARATORS,
)

__all__ = ["MAX_DIGITS", "Token", "UnreadableError", "parse_number", "tokenize"]

Token = tuple[str, object]
MAX_DIGITS = 1_000  # Python refuses more than 4,300; no answer worth reading has more than a few hundred


class UnreadableError(Exception):
    """The text is not what this grammar knows. Says nothing about right or wrong."""


_PIECE = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?
        |(?:\d+(?:\.\d+|\.(?!\d))?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)
    |(?P<plain>\d+)
    |\\(?P<command>[A-Za-z]+)
    |\\(?P<escaped>.)
    |(?P<letters>[A-Za-z]+)
    |(?P<op><=|>=|=<|=>|!=|==|\*\*|[-+*/^_=<>(){}\[\]|,;:!%'&])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_GAP = re.compile(r"\d{3}(?!\d)")


def parse_number(text: str) -> Num:
    """A number as written: commas, leading zeros, "2e27", ".5"; UnreadableError beyond MAX_DIGITS."""
    text = text.replace(",", "").rstrip(".")
    if len(text) > MAX_DIGITS:
        raise UnreadableError("too many digits")
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise UnreadableError("exponent too large")
    whole, point, decimals = mantissa.partition(".")
    places = len(decimals) if point else None
    return Num(Fraction(text), places, len((whole + decimals).lstrip("0")) if point else 0)


def tokenize(text: str, *, grouped: bool = True, depth: int = 0) -> list[Token]:
    """Tokens of a cleaned text. `grouped`: "1,234" is one number; otherwise every comma separates."""
    if depth > 4:
        raise UnreadableError("text in text in text")
    tokens: list[Token] = []
    position, end = 0, len(text)
    while position < end:
        piece = _PIECE.match(text, position)
        if piece is None:
            raise UnreadableError("no token")
        kind, value = piece.lastgroup, piece.group(piece.lastgroup or 0)
        position = piece.end()
        if kind == "space":
            # "1 000 000" is one number, written with spaces.
            if tokens and tokens[-1][0] == "num" and grouped and _GAP.match(text, position):
                position = _join_group(text, position, tokens)
        elif kind == "number":
            if not grouped and "," in value:
                value = value.partition(",")[0]
                position = piece.start() + len(value)
            tokens.append(("num", parse_number(value)))
        elif kind == "command":
            position = _command(value, text, position, tokens, grouped, depth)
        elif kind == "letters":
            _letters(value, tokens, is_after_command=False)
        elif kind == "op":
            if value in ",;":
                tokens.append(("sep", value))
            else:
                tokens.append(("op", ASCII_OPERATORS.get(value, value)))
        elif kind == "escaped":
            if value == "\\":
                tokens.append(("op", "newline"))
            elif value in ESCAPED:
                if ESCAPED[value]:
                    tokens.append(("op", ESCAPED[value]))
            elif value not in "()[] ,;:!\n/":
                raise UnreadableError(f"\\{value}")
        elif value.isalpha():
            tokens.append(("sym", value))
        elif value not in '"`.?~$':
            raise UnreadableError(value)
    return _without_idle_braces(tokens)


def _join_group(text: str, position: int, tokens: list[Token]) -> int:
    last = tokens[-1][1]
    assert isinstance(last, Num)
    if last.places is not None or last.value < 1:
        return position
    tokens[-1] = ("num", parse_number(str(last.value.numerator) + text[position : position + 3]))
    return position + 3


def _letters(value: str, tokens: list[Token], *, is_after_command: bool) -> None:
    lower = value.lower()
    if len(value) == 1:
        tokens.append(("sym", value))
    elif lower in WORDS_AS_SEPARATORS:
        tokens.append(("sep", "and"))
    elif value in FUNCTIONS:
        tokens.append(("fn", ALIASES.get(value, value)))
    elif value in ASCII_WORDS:
        tokens.append(("sym", ASCII_WORDS[value]))
    elif value in ("sqrt", "binom"):
        tokens.append(("cmd", value))
    elif value in MODULES:
        pass  # "np.arcsin(x)": the full stop is dropped too
    elif lower in MULTIPLIERS and tokens and tokens[-1][0] == "num":
        tokens.extend((("op", "*"), ("num", Num(Fraction(MULTIPLIERS[lower])))))
    elif lower in PERCENT:
        tokens.append(("op", "%"))
    elif lower in ("degrees", "degree", "deg"):
        tokens.append(("op", "deg"))
    elif lower in SHORT_WORDS or _is_unit_here(value, tokens):
        tokens.append(("word", lower))
    elif value.isupper() or (len(value) < 4 and not (value[0].isupper() and value[1:].islower())):
        tokens.extend(("sym", letter) for letter in value)  # AB, SRMC, xyz: products of symbols
    else:
        tokens.append(("word", lower))


def _is_unit_here(value: str, tokens: list[Token]) -> bool:
    """A unit follows a value, and a short one is in small letters: dM is no decimetre."""
    if not tokens or not is_unit(value.lower()) or not (value.islower() or len(value) > 3):
        return False
    kind, last = tokens[-1]
    return kind in ("num", "word") or (kind == "op" and last in (")", "}", "|", "!", "^"))


def _command(name: str, text: str, position: int, tokens: list[Token], grouped: bool, depth: int) -> int:
    """Append what \\name means; returns where the text goes on."""
    if name in OPERATORS:
        tokens.append(("op", OPERATORS[name]))
    elif name in STRUCTURE:
        tokens.append(("cmd", name))
    elif name in FUNCTIONS:
        tokens.append(("fn", ALIASES.get(name, name)))
    elif name in TEXT:
        content, position = _argument(text, position)
        _text(content, tokens, grouped, depth)
    elif name in ("begin", "end"):
        content, position = _argument(text, position)
        if content.strip("*") == "array" and name == "begin":
            _, position = _argument(text, position)  # the column format
        tokens.append(("cmd", f"{name}({content})"))
    elif name in ACCENTS:
        content, position = _argument(text, position)
        letters = re.sub(r"[\\{}\s]", "", content)
        if not letters or len(letters) > 12:
            raise UnreadableError(name)
        # A line over several letters is a segment or a repeating decimal; both are names here.
        tokens.append(("sym", letters if name == "vec" else f"{name}({letters})"))
    elif name in ("boxed", "fbox", "rm", "bf", "it", "cal", "small", "large", "Large", "mathbin", "mathrel"):
        pass
    elif name in ("mathbb", "Bbb"):
        content, position = _argument(text, position)
        tokens.append(("sym", f"bb({content})"))
    elif name in ("ce", "href", "url", "cite", "tag", "label"):
        raise UnreadableError(name)
    elif name in ("pmod", "bmod", "mod"):
        tokens.append(("op", "mod"))
    elif name in ("dollar", "textdollar"):
        pass
    elif name == "percent":
        tokens.append(("op", "%"))
    else:
        tokens.append(("sym", SYMBOL_NAMES.get(name, name)))
    return position


def _text(content: str, tokens: list[Token], grouped: bool, depth: int) -> None:
    """The content of \\text and its like: words, a separator, a unit, or mathematics after all."""
    content = content.strip(" ~\\,;:")
    lower = content.lower().strip(".")
    if not content:
        return
    if lower in WORDS_AS_SEPARATORS:
        tokens.append(("sep", "and"))
    elif lower in MULTIPLIERS:
        _letters(lower, tokens, is_after_command=False)
    elif lower in PERCENT or lower.startswith(("degree", "deg")):
        tokens.append(("op", "%" if lower in PERCENT else "deg"))
    elif len(content) == 1 and content not in "ei" and tokens and tokens[-1][0] == "num":
        tokens.append(("word", content))  # 5\\text{ m}, but 2\\mathrm{e}
    elif len(content) == 1 or content in FUNCTIONS or any(c in content for c in "0123456789\\^_"):
        tokens.extend(tokenize(content, grouped=grouped, depth=depth + 1))
    else:
        tokens.append(("word", " ".join(lower.split())))


def _argument(text: str, position: int) -> tuple[str, int]:
    """The {group} or single character at `position`, and where it ends."""
    while position < len(text) and text[position].isspace():
        position += 1
    if position == len(text):
        return "", position
    if text[position] != "{":
        match = re.compile(r"\\[A-Za-z]+|.", re.DOTALL).match(text, position)
        assert match is not None
        return match.group(), match.end()
    depth = 0
    for index in range(position, len(text)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return text[position + 1 : index], index + 1
    raise UnreadableError("unclosed brace")


def _without_idle_braces(tokens: list[Token]) -> list[Token]:
    """{x} is x: a group of one token needs no braces, since a token is never split again."""
    kept: list[Token] = []
    for token in tokens:
        kept.append(token)
        while (
            len(kept) >= 3
            and kept[-1] == ("op", "}")
            and kept[-3] == ("op", "{")
            and kept[-2][0] in ("num", "sym")
        ):
            kept[-3:] = [kept[-2]]
    return kept
