"""Defines which words are units, and how units are converted. The factors are pint's.

Only the names below are units here (for pint, "points", "hands" and "chains" are lengths, too); any other
word is a label. pint and its registry take a second to load, so they are loaded when two units differ.
"""

import sys
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from drsft.verify import deadlines

__all__ = ["CURRENCIES", "Unit", "factor_between", "is_label", "is_unit"]

Unit = tuple[tuple[str, int], ...]  # names with their powers: (("km", 1), ("h", -1))

_PREFIXED = "m g s A K mol J W N C V F T Pa Hz eV L l ohm Ω B cal Wb H rad bit lm lx Bq Gy Wh"
_PREFIXES = ("", "k", "M", "G", "T", "m", "µ", "u", "n", "p", "c", "d", "h", "f")
_LONG_PREFIXES = ("", "kilo", "mega", "giga", "milli", "micro", "nano", "centi", "deci", "hecto")
_LONG = (
    "meter metre gram second ampere kelvin mole joule watt newton coulomb volt farad pascal hertz liter litre"
    " calorie ohm"
)
_OTHERS = (
    "min h hr hour minute sec day week year yr month in inch inches ft foot feet yd yard mi mile oz ounce lb"
    " lbs pound ton tonne gallon quart pint acre hectare ha mph kph kmh atm bar mmHg hp °C °F Å"
    " angstrom amu u radian erg dyn dyne byte knot century tablespoon teaspoon tbsp tsp cc psi kcal rpm AU ly"
    " Torr torr KJ Nm"
)
# Money has no fixed rates: every currency is a dimension of its own.
CURRENCIES = {
    **dict.fromkeys(("USD", "dollar", "dollars", "bucks"), "dollar"),
    **dict.fromkeys(("cent", "cents", "¢"), "cent"),
    **dict.fromkeys(("EUR", "euro", "euros"), "EUR"),
    **dict.fromkeys(("GBP", "pounds sterling"), "GBP"),
    **dict.fromkeys(("CHF", "francs"), "CHF"),
    **dict.fromkeys(("INR", "Rs", "rupee", "rupees"), "INR"),
    **dict.fromkeys(("JPY", "yen"), "JPY"),
    **dict.fromkeys(("CNY", "RMB", "yuan"), "CNY"),
    **dict.fromkeys(
        ("CAD", "AUD", "SEK", "NOK", "DKK", "RUB", "BRL", "MXN", "KRW", "HKD", "SGD", "NZD", "ZAR"), ""
    ),
}
# Words that may be another currency's: pounds are sterling beside it, cents the euro's.
_OF_MONEY = {
    ("GBP", "pound"): Fraction(1),
    ("GBP", "pounds"): Fraction(1),
    ("EUR", "cent"): Fraction(100),
    ("EUR", "cents"): Fraction(100),
}
_PINT_NAMES = {
    **{"hr": "hour", "sec": "second", "Å": "angstrom", "l": "L", "kmh": "km/hour", "lbs": "lb", "yr": "year"},
    **{"Ω": "ohm", "ly": "light_year", "AU": "astronomical_unit", "in": "inch", "h": "hour", "u": "amu"},
    **{"Nm": "newton * meter", "cm³": "cm**3", "Torr": "torr", "KJ": "kJ", "min": "minute"},
    **{"inches": "inch", "feet": "foot"},
}


@cache
def _names() -> frozenset[str]:
    short = {prefix + name for prefix in _PREFIXES for name in _PREFIXED.split()} - {"hs", "fs", "cd", "pl"}
    long = {prefix + name for prefix in _LONG_PREFIXES for name in _LONG.split()}
    others = set(_OTHERS.split())
    plural = {name + "s" for name in long | others if len(name) > 2}
    return frozenset(short | long | others | plural | set(CURRENCIES))


def is_unit(word: str) -> bool:
    return word in _names()


def is_label(unit: Unit) -> bool:
    """Returns whether a unit contains a word that is no unit of measure: "marbles", "miles per trip"."""
    return any(not is_unit(name) for name, _ in unit)


@lru_cache(maxsize=4096)
def factor_between(unit: Unit, other: Unit) -> Fraction | None:
    """Returns how many `other` are one `unit`; None if they measure different things or one is a label."""
    if unit == other:
        return Fraction(1)
    if is_label(unit) or is_label(other):
        return None
    names = (unit[0][0], other[0][0]) if len(unit) == len(other) == 1 else ("", "")
    if names in _OF_MONEY:
        return _OF_MONEY[names]
    if names[::-1] in _OF_MONEY:
        return 1 / _OF_MONEY[names[::-1]]
    if any("°" in name for name, _ in (*unit, *other)):
        return None  # their zeros differ
    registry = _registry()
    try:
        return Fraction(registry.convert(Fraction(1), _written(unit), _written(other)))
    except Exception:  # pint's errors have no common base: another dimension, an offset scale
        return None


def _written(unit: Unit) -> str:
    names = [(CURRENCIES.get(name) or _PINT_NAMES.get(name, name), power) for name, power in unit]
    return " * ".join(f"{name} ** {power}" for name, power in names)


@cache
def _registry() -> Any:
    is_loaded = "pint" in sys.modules
    import pint

    registry: Any = pint.UnitRegistry(non_int_type=Fraction, cache_folder=None)
    for currency in sorted({code or name for name, code in CURRENCIES.items()} - {"cent"}):
        registry.define(f"{currency} = [money_in_{currency}]")
    registry.define("cent = dollar / 100")
    registry.define("mmHg = 133.322 * pascal")
    if not is_loaded:
        deadlines.imports_done()
    return registry
