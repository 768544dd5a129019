r"""Splits text into tokens, the same for LaTeX, ASCII ("x**2", "sqrt(3)", "2e27") and plain words.

Two texts with equal tokens are equal answers: spacing, font commands, \frac12 against \frac{1}{2}, leading
zeros and the spelling of numbers are gone. A token is a pair of kind and value:

    num   Num                       sym   a symbol's name            fn    a function's name
    op    an operator or bracket    word  a word                     sep   a separator of answers: , ; and or
    unit  a unit's name             cmd   a structural command: frac, sqrt, binom, sum, int, begin(...)
"""

import re
from fractions import Fraction

from drsft.verify.maths.syntax import Num
from drsft.verify.maths.units import CURRENCIES, is_unit

__all__ = ["MAX_DIGITS", "PRIMES", "Token", "UnreadableError", "parse_number", "tokenize"]

Token = tuple[str, object]
MAX_DIGITS = 1_000  # Python refuses more than 4,300; no answer worth reading has more than a few hundred


class UnreadableError(Exception):
    """Raised for a text outside the parser's grammar; such an answer can still be right."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


FUNCTIONS = _set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch ln log"
    " lg exp min max gcd lcm det arg Re Im sgn asin acos atan asinh acosh atanh abs floor ceil"
)
ALIASES = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{"lg": "log", "Re": "re", "Im": "im", "sgn": "sign"},
}
OPERATORS = {
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), ">="),
    **dict.fromkeys(("ne", "neq"), "!="),
    **dict.fromkeys(("approx", "simeq", "doteq", "sim", "cong"), "approx"),
    **dict.fromkeys(("setminus", "backslash"), "minus"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("to", "mapsto", "rightarrow"), "to"),
    **dict.fromkeys(("Rightarrow", "implies", "Longrightarrow", "iff", "therefore"), "implies"),
    **dict.fromkeys(("ldots", "dots", "cdots"), "dots"),
    **{"div": "/", "lt": "<", "gt": ">", "not": "not", "in": "in", "equiv": "equiv", "cup": "union"},
    **{"cap": "intersect", "pm": "pm", "mp": "mp", "lbrace": "{set", "rbrace": "set}", "langle": "("},
    **{"rangle": ")", "lbrack": "[", "rbrack": "]", "lfloor": "floor(", "rfloor": "floor)"},
    **{"lceil": "ceil(", "rceil": "ceil)", "colon": ":", "prime": "'", "circ": "circ", "degree": "deg"},
    **dict.fromkeys(("pmod", "bmod", "mod"), "mod"),
    **{"choose": "binom", "over": "over", "perp": "perp", "percent": "%"},
}
ESCAPED = {"{": "{set", "}": "set}", "%": "%", "|": "|", "_": "_", "&": "&", "#": "#", "\\": "newline"}
ASCII_OPERATORS = {"**": "^", "==": "=", "=<": "<=", "=>": "implies"}
STRUCTURE = _set("frac sqrt binom tbinom dbinom sum prod int iint oint lim overset underset")
SYMBOL_NAMES = {
    **{"infty": "inf", "infinity": "inf", "varnothing": "emptyset"},
    **{f"var{name}": name for name in ("phi", "epsilon", "theta")},
}
ACCENTS = _set("bar hat vec dot ddot tilde overline underline widehat overrightarrow overleftrightarrow")
TEXT = _set("text textbf textit textrm textsf texttt mbox hbox mathrm operatorname emph textnormal")
IGNORED = _set("boxed fbox rm bf it cal small large Large mathbin mathrel dollar textdollar because")
AND, OR = frozenset({"and", "и", "和", "与", "und", "et"}), frozenset({"or", "或", "oder", "ou"})
SEPARATORS = {**dict.fromkeys(AND, "and"), **dict.fromkeys(OR, "or")}
ASCII_WORDS = {"pi": "pi", "inf": "inf", "infty": "inf", "infinity": "inf", "oo": "inf"}
SHORT_WORDS = _set("per the is are so of for an we has he she it day all sq cu")
PERCENT = _set("percent pct percents percentage")
MULTIPLIERS = {
    **{"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
    **{"万": 10**4, "亿": 10**8},
}
POWERS = {"squared": 2, "cubed": 3}  # after a unit
MODULES = frozenset({"np", "math", "numpy"})

_PIECE = re.compile(
    r"""(?P<space>\s+)
    |(?P<repeating>\d*\.(?:\d*\\(?:overline|bar|dot)\s*(?:\{\d+\}|\d)(?:\d*\\dot\s*(?:\{\d\}|\d))?|\(\d+\)
        |\d*?(?P<digit>\d)(?P=digit){2,}(?:\.{3}|\\[lc]?dots(?![a-z]))))
    |(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?
        |(?:\d+(?:\.\d+|\.(?!\d))?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)
    |\\(?P<command>[A-Za-z]+)
    |\\(?P<escaped>.)
    |(?P<letters>[A-Za-zµΩ]+)
    |(?P<op><=|>=|=<|=>|!=|!!|==|\*\*|[-+*/^_=<>(){}\[\]|,;:!%'&])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ARGUMENT = re.compile(r"\s*(\\[A-Za-z]+|.|$)", re.DOTALL)
_GAP = re.compile(r"\d{3}(?!\d)")
_UNIT_POWER = re.compile(r"(?<=[A-Za-zµΩ])\s*\^?\{?(-?\d)\}?")
_UNIT_TEXT = re.compile(r"[A-Za-zµΩ]+|[/*·^.\s-]|\d|[(){}]")


def parse_number(text: str) -> Num:
    """Parses a decimal number ("1,234", "2e27", ".5"): exact value, decimal places, significant digits.

    Raises UnreadableError for more than MAX_DIGITS characters, or an exponent above MAX_DIGITS.
    """
    text = text.replace(",", "").rstrip(".")
    if len(text) > MAX_DIGITS:
        raise UnreadableError(f"a number has more than {MAX_DIGITS} characters")
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise UnreadableError(f"a number's exponent is above {MAX_DIGITS}")
    whole, point, decimals = mantissa.partition(".")
    places = len(decimals) - int(exponent or 0) if point or exponent else None
    return Num(Fraction(text), places, len((whole + decimals).lstrip("0")) if point or exponent else 0)


def _repeating(text: str) -> Num:
    r"""Returns the exact value of 0.\overline{3}, 0.1\dot{6}, 0.\dot{1}4\dot{2}, 0.(3) or 0.333..."""
    whole, _, rest = text.partition(".")
    head = re.match(r"\d*", rest)
    assert head is not None
    fixed, period = head[0], "".join(re.findall(r"\d", rest[head.end() :]))
    if not period:
        fixed, period = fixed.rstrip(fixed[-1]), fixed[-1]
    if len(fixed) + len(period) > MAX_DIGITS:
        raise UnreadableError(f"a number has more than {MAX_DIGITS} digits")
    nines = (10 ** len(period) - 1) * 10 ** len(fixed)
    return Num(Fraction(int((whole or "0") + fixed), 10 ** len(fixed)) + Fraction(int(period), nines))


def tokenize(text: str, *, grouped: bool = True, depth: int = 0) -> list[Token]:
    """Returns the tokens of a text from `clean`, or raises UnreadableError. "1,234" is one if `grouped`."""
    if depth > 4:
        raise UnreadableError(r"commands like \text are nested too deeply")
    tokens: list[Token] = []
    position, end = 0, len(text)
    while position < end:
        piece = _PIECE.match(text, position)
        assert piece is not None  # the last alternative fits any character
        kind, position = str(piece.lastgroup), piece.end()
        value = piece[kind]
        if kind == "space":
            # "1 000 000" is one number, written with spaces.
            if tokens and tokens[-1][0] == "num" and grouped and _GAP.match(text, position):
                position = _join_group(text, position, tokens)
        elif kind == "repeating":
            tokens.append(("num", _repeating(value)))
        elif kind == "number":
            if not grouped and "," in value:
                value = value.partition(",")[0]
                position = piece.start() + len(value)
            tokens.append(("num", parse_number(value)))
        elif kind == "command":
            position = _command(value, text, position, tokens, grouped, depth)
        elif kind == "letters":
            is_apart = piece.start() > 0 and text[piece.start() - 1].isspace()
            _letters(value, tokens, is_apart=is_apart)
        elif kind == "op":
            tokens.append(("sep" if value in ",;" else "op", ASCII_OPERATORS.get(value, value)))
        elif kind == "escaped" and value in ESCAPED:
            tokens.append(("op", ESCAPED[value]))
        elif kind == "escaped":
            if value not in "()[] ,;:!\n/$":
                raise UnreadableError(f"the command \\{value} is not known")
        elif value.isalpha():
            _foreign(value, text, tokens)
        elif value == "、":
            tokens.append(("sep", ","))
        elif value not in '"`.?~$':
            raise UnreadableError(value)
    return _without_idle_braces(tokens)


def _join_group(text: str, position: int, tokens: list[Token]) -> int:
    last = tokens[-1][1]
    assert isinstance(last, Num)
    if last.places is not None or last.value < 1 or last.value.denominator != 1:
        return position
    tokens[-1] = ("num", parse_number(str(last.value.numerator) + text[position : position + 3]))
    return position + 3


def _foreign(letter: str, text: str, tokens: list[Token]) -> None:
    """Adds a letter of another script: a separator, a multiplier, part of a word, or a symbol (Greek)."""
    if letter in SEPARATORS:
        tokens.append(("sep", SEPARATORS[letter]))
    elif letter in MULTIPLIERS and tokens and tokens[-1][0] == "num":
        tokens.extend((("op", "*"), ("num", Num(Fraction(MULTIPLIERS[letter])))))
    elif "\u0370" <= letter < "\u0400":
        tokens.append(("sym", letter))
    elif tokens and tokens[-1][0] == "word" and not str(tokens[-1][1]).isascii():
        tokens[-1] = ("word", f"{tokens[-1][1]}{letter}")
    else:
        tokens.append(("word", letter))


def _letters(value: str, tokens: list[Token], *, is_apart: bool) -> None:
    lower = value.lower()
    if len(value) == 1:
        is_unit_letter = is_apart and _follows_number(tokens) and is_unit(value)
        tokens.append(("unit" if is_unit_letter else "sym", value))
    elif lower in SEPARATORS:
        tokens.append(("sep", SEPARATORS[lower]))
    elif value == "min" and tokens and (tokens[-1][0] == "num" or (is_apart and tokens[-1] == ("op", "/"))):
        tokens.append(("unit", value))
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
    elif value in CURRENCIES or (_follows_value(tokens) and _unit_name(value)):
        tokens.append(("unit", _unit_name(value) or value))
    elif lower in SHORT_WORDS:
        tokens.append(("word", lower))
    elif value.isupper() or (len(value) < 4 and not (value[0].isupper() and value[1:].islower())):
        if is_apart and _follows_value(tokens) and len(value) > 2 and value.islower():
            tokens.append(("word", lower))  # 5 red, 6 pens; "3 xy" is algebra
        else:
            tokens.extend(("sym", letter) for letter in value)  # AB, SRMC, xyz: products of symbols
    else:
        tokens.append(("word", lower))


def _unit_name(word: str) -> str | None:
    """Returns the spelling in the table of units: as written, or in lower case if the word is long."""
    if is_unit(word):
        return word
    return word.lower() if len(word) > 3 and is_unit(word.lower()) else None


def _follows_number(tokens: list[Token]) -> bool:
    return bool(tokens) and (tokens[-1][0] in ("num", "unit") or tokens[-1] in (("op", "}"), ("op", "/")))


def _follows_value(tokens: list[Token]) -> bool:
    kind, last = tokens[-1] if tokens else ("", "")
    return kind in ("num", "word", "unit") or (kind == "op" and str(last) in ")}|!^/*(")


def _command(name: str, text: str, position: int, tokens: list[Token], grouped: bool, depth: int) -> int:
    """Adds the tokens of \\name; returns where the text continues."""
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
        tokens.append(("op", "end") if name == "end" else ("cmd", f"begin({content})"))
    elif name in ACCENTS:
        content, position = _argument(text, position)
        letters = re.sub(r"[\\{}\s]", "", content)
        if not letters or len(letters) > 12:
            raise UnreadableError(name)
        tokens.append(("sym", letters if name == "vec" else f"{name}({letters})"))
    elif name in IGNORED:
        pass
    elif name in ("mathbb", "Bbb"):
        content, position = _argument(text, position)
        tokens.append(("sym", f"bb({content})"))
    elif name in ("ce", "href", "url", "cite", "tag", "label"):
        raise UnreadableError(name)
    else:
        tokens.append(("sym", SYMBOL_NAMES.get(name, name)))
    return position


def _text(content: str, tokens: list[Token], grouped: bool, depth: int) -> None:
    """Adds the content of \\text and similar: words, a separator, a unit, or mathematics after all."""
    content = content.replace(r"\cdot", "·").lstrip(" ~\\,;:").rstrip(" ~\\,;")
    lower = content.lower().strip(".")
    if not content:
        return
    if content.endswith(":") and content[:-1].isalpha():
        tokens.extend((("word", lower[:-1]), ("op", ":")))
        return
    if lower in SEPARATORS or lower in MULTIPLIERS or lower in PERCENT:
        _letters(lower, tokens, is_apart=False)
    elif lower.startswith("deg"):
        tokens.append(("op", "deg"))
    elif _is_units(content, tokens):
        tokens.extend(_units(content))
    elif content in CURRENCIES:
        tokens.append(("unit", content))
    elif len(content) == 1 and content not in "ei" and tokens and tokens[-1][0] == "num":
        tokens.append(("word", content))  # 5\\text{ m}, but 2\\mathrm{e}
    elif len(content) == 1 or content in FUNCTIONS or any(c in content for c in "0123456789\\^_,:="):
        tokens.extend(tokenize(content, grouped=grouped, depth=depth + 1))
    else:
        for part in re.split(r"\s*\b(and|or)\b\s*", lower):
            if part:
                tokens.append(("sep", part) if part in ("and", "or") else ("word", " ".join(part.split())))


def _is_units(content: str, tokens: list[Token]) -> bool:
    """Returns whether a text after a value is units only: "kg/m", "m s", "square feet"."""
    if not tokens or (not _follows_value(tokens) and tokens[-1] != ("op", "%")):
        return False
    names = re.findall(r"[A-Za-zµΩ]+", content)
    skipped = ("square", "cubic", "per", "sq", "cu", *POWERS)
    is_known = bool(names) and all(name in skipped or _unit_name(name) for name in names)
    return is_known and not _UNIT_TEXT.sub("", content)


def _units(content: str) -> list[Token]:
    """Returns the tokens of a unit's text as they are after a number: of "m/s2", too."""
    written = re.sub(r"[·*]|(?<=[A-Za-z])-(?=[A-Za-z])", "* ", _UNIT_POWER.sub(r"^{\1}", content))
    return tokenize(f"1 {written.replace('/', '/ ')}")[1:]


def _argument(text: str, position: int) -> tuple[str, int]:
    """Returns the {group} or single character at `position`, and where it ends."""
    first = _ARGUMENT.match(text, position)
    assert first is not None
    if first[1] != "{":
        return first[1], first.end()
    depth = 1
    for brace in re.compile("[{}]").finditer(text, first.end()):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[first.end() : brace.start()], brace.end()
    raise UnreadableError("a brace is not closed")


PRIMES = ("'", "''", "'''")


def _without_idle_braces(tokens: list[Token]) -> list[Token]:
    """Removes braces around a single token, which is never split again, and the ^ before primes."""
    kept: list[Token] = []
    for token in tokens:
        if token == ("op", "'") and kept and kept[-1][1] in PRIMES[:2]:
            kept[-1] = ("op", f"{kept[-1][1]}'")
            continue
        kept.append(token)
        while len(kept) >= 3 and kept[-1] == ("op", "}") and kept[-3] == ("op", "{"):
            if kept[-2][0] not in ("num", "sym", "unit") and kept[-2][1] not in ("circ", *PRIMES):
                break
            kept[-3:] = [kept[-2]]
        if kept[-1][1] in PRIMES and kept[-2:-1] == [("op", "^")]:
            del kept[-2]
    return kept
