"""The examples in the docstrings of the public names, and in docs/python.md, as a reader would run them."""

import doctest
import inspect
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import drsft
from drsft.policy.prompts import model_location

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/python.md"
GOLDEN = ROOT / "tests/golden"
PEERS = ROOT / ".venv-peers/bin/python"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


TRL_EXAMPLE = """
import doctest, sys
import drsft, transformers.trainer
transformers.trainer.PrinterCallback = transformers.TrainerCallback  # which would print between the lines
set_up, from_export, exported = sys.argv[1:]
given = {"drsft": drsft}
exec(set_up, given)
messages = given["row"]["prompt"] + given["row"]["completion"]
given["datasets"].Dataset.from_list([{"messages": messages, "source": "own"}] * 4).to_parquet(exported)
exec(from_export, given)
example = doctest.DocTestParser().get_doctest(drsft.objective_trainer.__doc__, given, "trl", None, 0)
sys.exit(doctest.DocTestRunner().run(example).failed)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a run with records."""
    folder = tmp_path_factory.mktemp("run")
    with tarfile.open(GOLDEN / "old_run.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return str(folder)


def _failures(docstring: str | None, name: str, given: dict[str, Any]) -> int:
    [example] = [doctest.DocTestParser().get_doctest(docstring or "", given, name, None, 0)]
    assert example.examples, f"{name} has no example"
    return doctest.DocTestRunner(optionflags=OPTIONS).run(example).failed


@pytest.mark.parametrize("name", ["verify", "objective_loss"])
def test_an_example_gives_what_it_says(name: str) -> None:
    assert _failures(getattr(drsft, name).__doc__, name, {"drsft": drsft}) == 0


def test_the_example_of_gap_gives_what_it_says() -> None:
    assert _failures(drsft.gap.__doc__, "gap", {"drsft": drsft}) == 0


def test_the_example_of_load_records_gives_what_it_says(run: str) -> None:
    assert _failures(drsft.load_records.__doc__, "load_records", {"drsft": drsft, "run": run}) == 0


@pytest.mark.engine
def test_the_example_of_rewriter_gives_what_it_says() -> None:
    assert _failures(drsft.Rewriter.__doc__, "Rewriter", {"drsft": drsft}) == 0


@pytest.mark.slow
def test_the_example_of_trl_on_the_page_gives_what_it_says(tmp_path: Path) -> None:
    if not PEERS.exists():
        pytest.skip(".venv-peers is missing: make peers")
    quiet = 'use_cpu=True, bf16=False, report_to="none", save_strategy="no", disable_tqdm=True'
    exported = str(tmp_path / "messages.parquet")
    changes = {
        '"Qwen/Qwen2.5-0.5B-Instruct"': repr(model_location("embedded")),
        'output_dir="trained"': f'output_dir="{tmp_path}", {quiet}',
        "runs/my-run-4f2a/export/messages.parquet": exported,
    }
    blocks = "\0".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    for shown, used in changes.items():
        assert shown in blocks
        blocks = blocks.replace(shown, used)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [PEERS, "-c", TRL_EXAMPLE, *blocks.split("\0"), exported]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_the_examples_of_the_docstrings() -> None:
    names = ["verify", "Rewriter", "gap", "load_records", "objective_trainer"]
    shown = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert shown == [_example(getattr(drsft, name).__doc__) for name in names]


def _example(docstring: str) -> str:
    """The docstring from its first prompt on."""
    lines = inspect.cleandoc(docstring).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(">>>"))
    return "\n".join(lines[start:]) + "\n"


def test_a_wrong_example_fails() -> None:
    assert _failures(">>> 1 + 1\n3\n", "wrong", {}) == 1
