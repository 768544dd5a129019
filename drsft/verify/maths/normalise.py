"""Removes differences of typing only: Unicode, spacing commands, \\dfrac, \\left, delimiters, currency.

`clean` is a handful of linear-time replacements, so that everything after it sees one spelling. The order of
the rules matters and is noted where it does.
"""

import re
import unicodedata

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
# A doubled backslash before a command's name is an escaped string, not a new row.
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:d?frac|tfrac|left|right|sqrt|pi|cdot|times|text|infty|le|ge|cup|begin|end|circ|mathbf)\b)"
)
_SPACING = re.compile(
    r"\\(?:quad|qquad|displaystyle|textstyle|limits|nolimits|mathstrut|hfill)\b\s?|(?<!\\)\\[;:,! ]|~"
)
_SIZES = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?![\d])")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_SHORT_NUMERATOR = re.compile(r"\\frac\s*(\d)\s*(?=[{\\a-zA-Z])")
# "32,\!349" and "10\,000" are one number each, "32, 349" and "32,\,349" are two.
_THOUSANDS = re.compile(r"(?<=\d)(?:,?\s*\\!|\\,|\{,\}(?:\\!)?)\s*(?=\d{3}(?!\d))")
# Scanned sources set bold numbers digit by digit: \\mathbf{1 0 9}.
_SPACED_DIGITS = re.compile(r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*(\d(?:\s\d)+)\s*\}")
_FONTS = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|mathit|mathsf|mathtt|mathcal|mathfrak|mathop|pmb)(?![A-Za-z])"
)
_DELIMITERS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|(?:^|(?<=\s))\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,;:!?]|$)")
_DOLLAR = re.compile(r"(?:US)?\\(?:\$|textdollar\b|dollar\b)|US\$")
_NAMED_DOLLAR = re.compile(r"(?<![A-Za-z\\$])(NZ|HK|AU|CA|[ACS])\\?\$(?=\s?\d)")
_DOLLARS = {"NZ": "NZD", "HK": "HKD", "AU": "AUD", "CA": "CAD", "A": "AUD", "C": "CAD", "S": "SGD"}
_LONE_DOLLAR = re.compile(r"^([^$]*)(?<!\\)\$(?=\s?[\d.])([^$]*)$")  # encloses no mathematics
_CURRENCY = re.compile(r"\\(pounds|euro)\b")
_RUPEES = re.compile(r"(?:\\(?:text|mathrm)\{\s*)?\bRs\b\.?\s*\}?")
_FAMILY = re.compile(r"\(\s*([a-z])\s*\\in\s*(\\mathbb\s*\{?\s*[ZN]\s*\}?|[ZN])\s*\)")
_DOMAIN = re.compile(
    r",?\s*(?:\\(?:text|mathrm|quad)\s*\{?\s*)?\b(?:where|with|for(?:\s+(?:all|any|some|every))?)\b\s*\}?\s*"
    r"(?=\$?\s*[a-z]\s*\\in\b)"
)
_ALTERNATIVE = re.compile(
    r"\(\s*(?:or|that is|namely|equivalently|i\.?e\.?|approximately|about|approx|=|\\approx)\b[^()]*\)\s*\.?$"
)
# Rows of equations are a list of them; rows with conditions are one function in pieces.
_SYSTEM = re.compile(r"\\begin\{cases\}((?:(?!&|\\text|\\begin|\bif\b).)*?)\\end\{cases\}", re.DOTALL)
# A counted thing in parentheses, "9 (hot dogs)", is a label and no product of letters.
_COUNTED = re.compile(r"^(-?[\d.,/]+)\s*\(([A-Za-z]{3,}(?: [A-Za-z]+)*)\)$")
_INFINITY = re.compile(r"\b(?:(positive|plus)|(negative|minus))\s+(?:infinity\b|\\infty)", re.IGNORECASE)
_EUROS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})*(?:,\d\d)?(?=\s?€)")  # 65.000 €, 0,80 €
_SHORT_LABEL = re.compile(r"(?<![\\{A-Za-z])([A-Za-z]{2,3})(?=\s*:\s*[-$]?\d)")  # red: 3
_SWISS = re.compile(r"(?<=\d)['’](?=\d{3}(?:\D|$))")  # CHF 7'500
_OHMS = re.compile(
    r"(\d\s*(?:\\(?:text|mathrm)\s*\{\s*)?)([kMGm])\s*(\}?)\s*\\Omega\b ?"
)  # 4.7 \text{k}\Omega
_EQUALS = re.compile(r"^=(?![<=>])\s*")
_STARTS = " \t\r\n,;:"  # ".5" begins with a full stop
_ENDS = _STARTS + "."


def clean(text: str) -> str:
    """Returns `text` in one spelling; idempotent, and linear in the length."""
    if not text.isascii():
        text = _EUROS.sub(lambda match: match[0].replace(".", "").replace(",", "."), text)
        text = text.translate(_UNICODE)
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text).translate(_UNICODE)
    if "Rs" in text:
        text = _RUPEES.sub(" INR ", text)
    if "(" in text:
        text = _COUNTED.sub(r"\1 \\text{\2}", text.strip())
        text = _ALTERNATIVE.sub("", _FAMILY.sub(r", \1 \\in \2", text))
    if r"\in" in text:
        text = _DOMAIN.sub(", ", text)
    if "\\" in text or "$" in text or "~" in text or "*" in text or "{" in text:
        text = _NAMED_DOLLAR.sub(lambda match: f" {_DOLLARS[match[1]]} ", text)
        text = _DOLLAR.sub(" USD ", text)  # before the delimiters: \$ is no delimiter
        text = _LONE_DOLLAR.sub(r"\1 USD \2", text)
        text = _CURRENCY.sub(lambda match: {"pounds": " GBP ", "euro": " EUR "}[match[1]], text)
        if r"\begin{cases}" in text:
            text = _SYSTEM.sub(lambda match: match[1].strip(" \n\\").replace("\\\\", ", "), text)
        if "\\\\" in text:
            text = _DOUBLED.sub(r"\\", text)
            text = text.replace(r"\\(", "(").replace(r"\\)", ")")
        text = _DELIMITERS.sub(" ", text)
        text = _THOUSANDS.sub("", text)
        text = _SPACING.sub(" ", text)
        text = _SIZES.sub("", text)
        if r"\Omega" in text:
            text = _OHMS.sub(r"\1 \2ohm\3 ", text)
        text = _FRACTIONS.sub(r"\\frac", text)
        if "\\frac" in text:
            text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text)
            text = _SHORT_NUMERATOR.sub(r"\\frac{\1}", text)
        text = _SPACED_DIGITS.sub(lambda match: match[1].replace(" ", ""), text)
        text = _FONTS.sub("", text)
        text = text.replace("{,}", ",").replace("{:}", ":")
    if "inf" in text:
        text = _INFINITY.sub(lambda match: r"\infty" if match[1] else r"-\infty", text)
    if ":" in text:
        text = _SHORT_LABEL.sub(r"\\text{\1}", text)
    if "per cent" in text:
        text = text.replace("per cent", "percent")
    if "'" in text:
        text = _SWISS.sub("", text)
    text = _EQUALS.sub("", text.lstrip(_STARTS), count=1).rstrip(_ENDS)
    while text.endswith("\\"):
        text = text[:-1].rstrip(_ENDS)
    return text
