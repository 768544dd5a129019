"""The public names of the package `drsft`, and what importing it costs."""

import json
import subprocess
import sys
from pathlib import Path

import drsft

ROOT = Path(__file__).parents[2]
NAMES = {
    *("verify", "rewrite", "Rewriter", "gap", "load_records", "objective_trainer", "objective_loss"),
    *("RecordSet", "GapReport", "Problem", "Message", "Record", "Verdict", "Outcome", "Source"),
    *("Target", "Prompts", "Rewrite", "Columns", "Verification", "Guards", "Objective"),
    *("DrsftError", "UserError", "__version__"),
}


def _in_a_new_process(code: str) -> dict[str, object]:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    answer: dict[str, object] = json.loads(found.stdout)
    return answer


def test_the_public_names_are_these() -> None:
    assert set(drsft.__all__) == NAMES
    assert list(drsft.__all__) == sorted(drsft.__all__)
    assert set(dir(drsft)) >= NAMES


def test_every_public_name_has_a_docstring_or_is_a_value() -> None:
    undocumented = [name for name in NAMES - {"__version__", "Objective"} if not getattr(drsft, name).__doc__]
    assert undocumented == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(drsft, "verifier")


def test_functions_stay_functions_when_their_subpackages_are_imported() -> None:
    code = """
import importlib, json, drsft
import drsft.verify, drsft.rewrite, drsft.gap
importlib.import_module("drsft.verify.numeric")
from drsft.verify.case import Case
from drsft import gap, rewrite, verify
print(json.dumps({name: [callable(getattr(drsft, name)), callable(local)]
    for name, local in (("verify", verify), ("rewrite", rewrite), ("gap", gap))}))
"""
    assert _in_a_new_process(code) == {name: [True, True] for name in ("verify", "rewrite", "gap")}


def test_importing_drsft_loads_the_standard_library_alone() -> None:
    code = """
import json, sys
before = set(sys.modules)
import drsft
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""
    assert _in_a_new_process(code) == ["drsft"]


def test_verdicts_and_records_load_neither_torch_nor_ray_nor_vllm() -> None:
    code = """
import json, sys, drsft
drsft.verify, drsft.load_records
print(json.dumps(sorted({"torch", "ray", "vllm", "transformers"} & set(sys.modules))))
"""
    assert _in_a_new_process(code) == []
