"""Units: which words are units, and what they measure, so that 2 hours can equal 120 minutes.

Factors are to the dimension's first unit. A unit that is not here is only a word: it is dropped.
"""

from collections.abc import Mapping
from fractions import Fraction

__all__ = ["factor_between", "is_unit"]

_DIMENSIONS: Mapping[str, Mapping[str, str]] = {
    "length": {
        "m meter metre": "1",
        "mm millimeter millimetre": "1/1000",
        "cm centimeter centimetre": "1/100",
        "dm decimeter decimetre": "1/10",
        "km kilometer kilometre": "1000",
        "in inch inches": "254/10000",
        "ft foot feet": "3048/10000",
        "yd yard": "9144/10000",
        "mi mile": "1609344/1000",
    },
    "time": {
        "s sec second": "1",
        "ms millisecond": "1/1000",
        "min minute": "60",
        "h hr hour": "3600",
        "day": "86400",
        "week": "604800",
    },
    "mass": {"g gram": "1", "mg milligram": "1/1000", "kg kilogram": "1000", "ton tonne": "1000000"},
    "volume": {"l liter litre": "1", "ml milliliter millilitre": "1/1000"},
    "money": {"dollar usd": "1", "cent": "1/100"},
    "angle": {"degree": "1", "radian": "0"},  # 0: never converted, a radian needs pi
    "count": {"unit": "1", "point": "0", "dozen": "0", "people": "0"},
}

# Words that are units whatever they measure; the last number in "12 apples" needs no table.
_KNOWN = {
    name: (dimension, Fraction(factor))
    for dimension, names in _DIMENSIONS.items()
    for spellings, factor in names.items()
    for name in spellings.split()
}


def _lookup(unit: str) -> tuple[str, Fraction] | None:
    name = unit.strip().rstrip(".").lower()
    return _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s")) or _KNOWN.get(name.removesuffix("es"))


def is_unit(word: str) -> bool:
    return _lookup(word) is not None


def factor_between(unit: str, other: str) -> Fraction | None:
    """How many `other` are one `unit`; 1 where either is unknown (a word), None where they differ."""
    if unit == other:
        return Fraction(1)
    first, second = _lookup(unit), _lookup(other)
    if first is None or second is None or not first[1] or not second[1]:
        return Fraction(1)
    if first[0] != second[0]:
        return None
    return first[1] / second[1]
