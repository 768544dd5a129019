"""Removes differences of typing only: Unicode, spacing commands, \\dfrac, \\left, delimiters, currency.

`clean` is a table of linear-time replacements, so that everything behind it sees one spelling. The order of
the rules matters and is noted where it does.
"""

import re
import unicodedata
from collections.abc import Callable

from drsft.verify.maths.units import is_unit

__all__ = ["clean"]

# What NFKC leaves, or would turn into something else: its ² is a plain 2.
_UNICODE = str.maketrans(
    {
        **{chr(0x2460 + index): f"({index + 1})" for index in range(20)},
        **{power: f"^{index}" for index, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{letter: f"\\{unicodedata.name(letter).split()[-1].lower()} " for letter in "πθαβγμφω"},
        **dict.fromkeys("−–—﹣", "-"),
        **dict.fromkeys("⋅·", r"\cdot "),
        **dict.fromkeys("÷∕", "/"),
        **dict.fromkeys("≤⩽", "<="),
        **dict.fromkeys("≥⩾", ">="),
        **dict.fromkeys("°º", r"^\circ "),
        **dict.fromkeys("′’", "'"),
        **dict.fromkeys("£₤", " GBP "),
        **{"×": r"\times ", "∗": "*", "√": r"\sqrt ", "∞": r"\infty ", "≠": "!=", "≈": r"\approx "},
        **{"λ": r"\lambda ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "±": r"\pm ", "⟨": "(", "⟩": ")"},
        **{"∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}"},
        **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}"},
        **{"¾": r"\frac{3}{4}", "…": r"\ldots ", "∣": "|", "Ω": r"\Omega ", "∠": r"\angle "},
        **{"€": " EUR ", "¥": " JPY ", "￥": " CNY ", "₹": " INR ", "¢": " cent "},
        **{"△": r"\triangle ", "⇒": r"\implies ", "∴": r"\therefore ", "【": "[", "】": "]", "。": "."},
    }
)
_DOLLARS = {"NZ": "NZD", "HK": "HKD", "AU": "AUD", "CA": "CAD", "A": "AUD", "C": "CAD", "S": "SGD"}
_EUROS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})*(?:,\d\d)?(?=\s?€)")  # 65.000 €, 0,80 €
_FONTS = "mathbf|boldsymbol|bm|mathit|mathsf|mathtt|mathcal|mathfrak|mathop|pmb"
_DOUBLED = "d?frac|tfrac|left|right|sqrt|pi|cdot|times|text|infty|le|ge|cup|begin|end|circ|mathbf"
_SPACES = "quad|qquad|displaystyle|textstyle|limits|nolimits|mathstrut|hfill"
_ALTERNATIVE = r"or|that is|namely|equivalently|i\.?e\.?|approximately|about|approx|=|\\approx"
_WHERE = r"\b(?:where|with|for(?:\s+(?:all|any|some|every))?)\b"
_OPENS_TEXT = r"(?:\\(?:text|mathrm)\s*\{\s*)"
_NOTE = (
    rf"(?<=\d)(?<![_^]\d)\s*({_OPENS_TEXT})?\(\s*{_OPENS_TEXT}?(?=[A-Za-zµ/])"
    r"((?:[A-Za-zµ /*.]|\\cdot|\^?\{-?\d\}|\^-?\d|\d|\([^()]*\))++)\}?\s*\)(?(1)\s*\})"
)
_NAME = re.compile(r"(?<!\\)\b[A-Za-zµ]+")
_SHORT = ("per", "sq", "cu", "of", "to", "on", "at", "by")  # of "sheets of paper"


def _noted(match: re.Match[str]) -> str:
    """Writes what is counted or measured as text: "9 (hot dogs)" is not a product of letters."""
    names, shortest = _NAME.findall(match[2]), 3 if match[0][0].isspace() else 4
    is_one = len(names) == 1 or "/" in match[2] or match[1] or any(len(name) > 1 for name in names)
    is_named = all(n in _SHORT or len(n) >= shortest or (is_unit(n) and n not in "BFHu") for n in names)
    is_note = names and is_one and is_named and names[0] not in ("sin", "cos", "tan", "cot", "log")
    return rf" \text{{{match[2].strip()}}}" if is_note else match[0]


# What a text must have, the pattern, what replaces it; in this order.
_RULES: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    ("Rs", rf"{_OPENS_TEXT}?\bRs\b\.?\s*\}}?", " INR "),
    ("(", r"\(\s*([a-z])\s*\\in\s*(\\mathbb\s*\{?\s*[ZN]\s*\}?|[ZN])\s*\)", r", \1 \\in \2"),
    ("(", rf"\(\s*(?:{_ALTERNATIVE})\b[^()]*\)\s*\.?$", ""),
    (r"\in", rf",?\s*(?:\\(?:text|mathrm|quad)\s*\{{?\s*)?{_WHERE}\s*\}}?\s*(?=\$?\s*[a-z]\s*\\in\b)", ", "),
    # Before the delimiters: \$ is none, and a lone dollar sign encloses no mathematics.
    ("$", r"(?<![A-Za-z\\$])(NZ|HK|AU|CA|[ACS])\\?\$(?=\s?\d)", lambda match: f" {_DOLLARS[match[1]]} "),
    ("$", r"(?:US)?\\\$|US\$", " USD "),
    ("dollar", r"(?:US)?\\(?:textdollar|dollar)\b", " USD "),
    ("$", r"^([^$]*)(?<!\\)\$(?=\s?[\d.])([^$]*)$", r"\1 USD \2"),
    (r"\pounds", r"\\pounds\b", " GBP "),
    (r"\euro", r"\\euro\b", " EUR "),
    (  # rows of equations are a list of them; rows with conditions are one function in pieces
        r"\begin{cases}",
        r"(?s)\\begin\{cases\}((?:(?!&|\\text|\\begin|\bif\b).)*?)\\end\{cases\}",
        lambda match: match[1].strip(" \n\\").replace("\\\\", ", "),
    ),
    ("\\\\", rf"(?<!\\)\\\\(?=(?:{_DOUBLED})\b)", r"\\"),  # of an escaped string, and no new row
    ("\\\\", r"\\\\([()])", r"\1"),
    ("$", r"(?<!\\)\$", " "),
    ("\\", r"(?<!\\)\\[()\[\]]", " "),
    ("**", r"(?:^|(?<=\s))\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,;:!?]|$)", " "),
    # "32,\!349" and "10\,000" are one number each, "32, 349" and "32,\,349" are two.
    ("\\", r"(?<=\d)(?:,?\s*\\!|\\,|\{,\}\\!)\s*(?=\d{3}(?!\d))", ""),
    ("{,}", r"(?<=\d)\{,\}\s*(?=\d{3}(?!\d))", ""),
    ("\\", rf"\\(?:{_SPACES})\b\s?|(?<!\\)\\[;:,! ]", " "),
    ("~", "~", " "),
    ("\\", r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?![\d])", ""),
    # 4.7 \text{k}\Omega, 2.7 \mu\mathrm{C}
    (r"\Omega", rf"(\d\s*{_OPENS_TEXT}?)([kMGm]?)\s*(\}}?)\s*\\Omega\b ?", r"\1 \2ohm\3 "),
    (r"\mu", r"(?<=\d)\s*\\mu\s*\\(?:mathrm|text)\s*\{[\s~]*([A-Za-z]+)\s*\}", r" µ\1 "),
    (r"\mu", rf"(\d\s*{_OPENS_TEXT}?)\\mu\s*([msgACFHJNVWL])(?![A-Za-z])", r"\1 µ\2 "),
    ("frac", r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    ("frac", r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    ("frac", r"\\frac\s*(\d)\s*(?=[{\\a-zA-Z])", r"\\frac{\1}"),
    # Scanned sources set bold numbers digit by digit: \mathbf{1 0 9}.
    ("\\", r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*(\d(?:\s\d)+)\s*\}", lambda match: match[1].replace(" ", "")),
    ("\\", rf"\\(?:{_FONTS})(?![A-Za-z])", ""),
    ("{", r"\{([,:])\}", r"\1"),
    ("inf", r"(?i)\b(?:positive|plus)\s+(?:infinity\b|\\infty)", r"\\infty"),
    ("inf", r"(?i)\b(?:negative|minus)\s+(?:infinity\b|\\infty)", r"-\\infty"),
    (":", r"(?<![\\{A-Za-z])([A-Za-z]{2,3})(?=\s*:\s*[-$]?\d)", r"\\text{\1}"),  # red: 3
    ("per cent", "per cent", "percent"),
    ("(", _NOTE, _noted),
    ("'", r"^\s*(\d{1,3})\s*'\s*(\d{1,2}(?:\.\d+)?)\s*(?:''|[\"”])?\s*$", r"\1 feet \2 inches"),
    ("h", r"(?<![\w.,])(\d+)\s?h\s?(\d{1,2})\s?m(?:in)?(?![A-Za-z])", r"\1 h \2 min"),  # 3h20m
    (" in ", r"^\s*([A-Za-z])\s+in\s+(?=[(\[\\{])", r"\1 \\in "),
    ("'", r"(?<=\d)['’](?=\d{3}(?:\D|$))", ""),  # CHF 7'500
)
_COMPILED = tuple((needed, re.compile(pattern), new) for needed, pattern, new in _RULES)
_EQUALS = re.compile(r"^=(?![<=>])\s*")
_STARTS = " \t\r\n,;:"  # ".5" begins with a full stop
_ENDS = _STARTS + "."


def clean(text: str) -> str:
    """Returns `text` with equal notations spelt alike; idempotent, in time linear in its length."""
    if not text.isascii():
        text = _EUROS.sub(lambda match: match[0].replace(".", "").replace(",", "."), text)
        text = text.translate(_UNICODE)
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text).translate(_UNICODE)
    for needed, pattern, new in _COMPILED:
        if needed in text:
            text = pattern.sub(new, text)
    text = _EQUALS.sub("", text.lstrip(_STARTS), count=1).rstrip(_ENDS)
    while text.endswith("\\"):
        text = text[:-1].rstrip(_ENDS)
    return text
