"""Builds a program from a reference's tests and a completion; it exits normally only if every test passes.

A reference is JSON in the format of one of two benchmarks:

    HumanEval   {"prompt": ..., "test": "def check(candidate): ...", "entry_point": ...}
    MBPP        {"tests": ["assert ...", ...], "setup": "..."}       (or test_list, test_setup_code)
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["UnitTests", "extract_code", "parse_tests", "program_of", "reference_of_row"]

_TEST_FIELDS = ("test", "entry_point", "tests", "test_list", "setup", "test_setup_code", "test_setup")
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*\r?\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_OPEN_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:python|py|python3)?[ \t]*\r?\n", re.MULTILINE)
_LOOKS_LIKE_CODE = re.compile(
    r"^\s*(?:def|class|import|from|return|for|while|if|\w+\s*=)\b|^\s*#", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class UnitTests:
    prompt: str  # the text that the completion continues; "" if it is complete by itself
    setup: str
    tests: str
    entry_point: str  # "" if unknown


def parse_tests(reference: str) -> UnitTests | None:
    """Returns the unit tests of a reference; None if it is not JSON of these formats, or has no test."""
    try:
        fields = json.loads(reference)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    entry_point = str(fields.get("entry_point") or "")
    if fields.get("test"):
        call = f"\ncheck({entry_point})\n" if entry_point else "\n"
        return UnitTests(str(fields.get("prompt") or ""), "", f"{fields['test']}{call}", entry_point)
    tests = fields.get("tests") or fields.get("test_list")
    if not isinstance(tests, list) or not tests:
        return None
    setup = str(fields.get("setup") or fields.get("test_setup_code") or fields.get("test_setup") or "")
    return UnitTests("", setup, "\n".join(str(test) for test in tests), entry_point)


def reference_of_row(fields: Mapping[str, Any], question: str) -> str | None:
    """Returns the unit tests of a dataset's row as a reference, which is JSON; None if it has no tests.

    Such a row keeps its tests in fields of their own: test, entry_point, test_list, … If it has HumanEval's
    `test`, the reference also contains `question`, the code that the completion continues.
    """
    tests = {name: fields[name] for name in _TEST_FIELDS if fields.get(name)}
    if "test" in tests:
        tests["prompt"] = question
    reference = json.dumps(tests, default=str)  # a number beside them may be a Decimal
    return reference if parse_tests(reference) is not None else None


def extract_code(text: str, entry_point: str) -> str | None:
    """Returns the code of a text; None if nothing looks like code.

    It is the fenced block that defines `entry_point`, else the last block, else an unclosed block, else the
    whole text.
    """
    blocks = [
        body for language, body in _FENCE.findall(text) if language.lower() in ("", "python", "py", "python3")
    ]
    if blocks:
        defining = [body for body in blocks if entry_point and f"def {entry_point}" in body]
        return str((defining or blocks)[-1])
    opening = _OPEN_FENCE.search(text)
    if opening is not None:  # the closing fence may be the stop string
        return text[opening.end() :]
    return text if _LOOKS_LIKE_CODE.search(text) else None


def program_of(unit_tests: UnitTests, code: str) -> str:
    """Returns a program that runs the tests on a completion's code: prompt, code and tests.

    The code continues the prompt, unless it defines the tested function itself: then it follows the prompt,
    whose imports and helpers it may use.
    """
    whole = not unit_tests.prompt or (unit_tests.entry_point and f"def {unit_tests.entry_point}" in code)
    code = code.replace("\r\n", "\n")
    if not unit_tests.prompt:
        body = code
    elif whole:
        body = f"{unit_tests.prompt}\n    pass\n\n{code}"
    else:
        body = unit_tests.prompt + code
    setup = unit_tests.setup.replace("\r\n", "\n")
    return f"{body}\n\n{setup}\n\n{unit_tests.tests}\n"
