"""The example of docs/training.md, which trains without Ray, works as it stands."""

import json
import textwrap
from pathlib import Path

import pytest

from drsft.storage import LocalStore
from drsft.train.checkpoint import commits
from drsft.train.model import load_model

PAGE = Path(__file__).parents[2] / "docs/training.md"


def example(heading: str) -> str:
    """The indented block of a section."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if not line.strip() or line.startswith("    ")]
    return textwrap.dedent("\n".join(lines))


def test_the_example_trains_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example("Without Ray"), str(PAGE), "exec"), {})
    final = json.loads(capsys.readouterr().out)
    metrics = [json.loads(line) for line in (tmp_path / "trained/metrics.jsonl").read_text().splitlines()]
    assert final == metrics[-1]
    assert final["ce"] < metrics[0]["ce"], "it learns"
    assert [commit.step for commit in commits(LocalStore(tmp_path / "trained"))] == [final["step"]]
    assert load_model(str(tmp_path / "trained/export")).num_parameters() > 0
