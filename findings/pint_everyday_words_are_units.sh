#!/usr/bin/env bash
# pint 0.25.3 (Python 3.11, Linux).
#
# Answers to word problems end in nouns: "3 points", "5 chains", "12 quarters", "2 hands".
#
# Expected: pint knows units of measurement and calls such nouns undefined.
# Seen: points, chains and hands are lengths and a quarter is a mass, plurals included; only apples are undefined.
# A comparison that asks pint whether a word is a unit takes counts of things for quantities.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install pint==0.25.3 2>/dev/null
cat > "$work/try.py" <<'PY'
import pint

registry = pint.UnitRegistry()
found = {}
for text in ("3 points", "5 chains", "12 quarters", "2 hands", "4 apples"):
    try:
        found[text] = str(registry(text).to_base_units().dimensionality)
    except pint.UndefinedUnitError:
        found[text] = "undefined"
    print(f"{text:<12} {found[text]}")
assert found == {
    "3 points": "[length]",
    "5 chains": "[length]",
    "12 quarters": "[mass]",
    "2 hands": "[length]",
    "4 apples": "undefined",
}, "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
