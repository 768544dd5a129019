"""`drsft doctor template`, as scripts call it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drsft.cli import app
from tests.support.templates import FAMILIES, folder_of, model_folder

KEYS = {
    *("model", "refused", "prompt", "head", "tail", "end_token_ids", "thought", "equals_template"),
    *("differs_because", "date", "variables"),
}


def test_the_object_has_the_keys_that_scripts_read(tmp_path: Path) -> None:
    family = FAMILIES["header"]
    folder = str(folder_of(tmp_path, family))
    done = CliRunner().invoke(app, ["doctor", "template", folder, "target.date=2026-11-27", "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found.keys() == KEYS
    assert found["refused"] is None
    assert found["prompt"].startswith("<|start|>system<|message|>Today is 2026-11-27.")
    assert "drsft-question" in found["prompt"]
    assert (found["head"], found["tail"]) == (family.head, family.tail)
    assert found["thought"]["is_open_in_prompt"] is False
    assert found["equals_template"] is True
    assert found["date"] == "2026-11-27"


def test_variables_are_those_that_a_user_can_set(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, FAMILIES["empty thought"]))
    done = CliRunner().invoke(app, ["doctor", "template", folder, "--json"])
    assert json.loads(done.stdout)["variables"] == ["enable_thinking"]
    off = "target.chat_template_kwargs.enable_thinking=false"
    done = CliRunner().invoke(app, ["doctor", "template", folder, off, "--json"])
    assert json.loads(done.stdout)["prompt"].endswith("</think>\n\n")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_refused_template_ends_with_2_and_says_why(tmp_path: Path, options: list[str]) -> None:
    folder = str(model_folder(tmp_path, "{{ messages[0].content }}<|im_end|>", markers=()))
    done = CliRunner().invoke(app, ["doctor", "template", folder, *options])
    assert done.exit_code == 2
    if options:
        found = json.loads(done.stdout)
        assert found.keys() == KEYS
        assert "set target.chat_template" in found["refused"]
    else:
        assert done.stdout.startswith("refused: target.model ")


def test_the_pieces_are_shown_with_the_ids_that_carry_loss(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, FAMILIES["several ends"]))
    done = CliRunner().invoke(app, ["doctor", "template", folder], env={"COLUMNS": "300"})
    assert done.exit_code == 0
    assert "the plain prompt, answered" in done.stdout
    assert "the guided prompt, answered" in done.stdout
    assert "<|/r|><|e|>" in done.stdout


def test_a_file_gives_the_template_of_a_model_without_one(tmp_path: Path) -> None:
    family = FAMILIES["plain"]
    folder = str(model_folder(tmp_path / "model", None, markers=family.markers))
    path = tmp_path / "mine.jinja"
    path.write_text(family.template)
    done = CliRunner().invoke(app, ["doctor", "template", folder, "--json"])
    assert "no chat template" in json.loads(done.stdout)["refused"]
    done = CliRunner().invoke(app, ["doctor", "template", folder, f"target.chat_template={path}", "--json"])
    assert json.loads(done.stdout)["tail"] == family.tail
