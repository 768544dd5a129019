#!/usr/bin/env bash
# datasets 5.2.0 (Python 3.11, Linux).
#
# JSON lines whose answers are mostly text ("007", "1.50") and once a bare number (12), as hand-made files have.
#
# Expected: an error about mixed types, or every value as text.
# Seen: load_dataset("json") turns the text into numbers, "007" into 7 and "1.50" into 1.5, without a warning.
# The same file without the bare number keeps its text. Reference answers, ids and codes change silently.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install datasets==5.2.0 2>/dev/null
cat > "$work/try.py" <<'PY'
import json
import pathlib
import sys

from datasets import load_dataset

folder = pathlib.Path(sys.argv[1])


def answers(name, values):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"answer": value}) + "\n" for value in values))
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    return rows["answer"][:]


text = answers("text", ["007", "1.50", "12"])
mixed = answers("mixed", ["007", "1.50", 12])
print("text alone      ", text)
print("with one number ", mixed)
assert text == ["007", "1.50", "12"], "the behaviour has changed"
assert mixed == [7, 1.5, 12], "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
