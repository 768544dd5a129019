"""The settings of the assistant's turn: runs made before them keep their names."""

import json
from pathlib import Path

import pytest

from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import ConfigError

CONFIG = "name: small\nproblems: {path: p.jsonl}\ntarget: {model: m, max_model_len: 4096}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_a_configuration_without_them_keeps_its_fingerprint(config: Path) -> None:
    covered = load_config(config).target.model_dump(mode="json")
    assert covered.keys() == {"model", "dtype", "max_model_len", "prompts", "engine"}


@pytest.mark.parametrize(
    "override",
    [
        "target.chat_template='{{ messages }}'",
        "target.chat_template_kwargs={enable_thinking: false}",
        "target.thought={open: <think>, close: </think>}",
        "target.spelt_markers=true",
        "target.date=2026-11-27",
    ],
)
def test_each_of_them_makes_another_run_and_survives_its_own_json(config: Path, override: str) -> None:
    changed = load_config(config, [override])
    assert changed.fingerprint != load_config(config).fingerprint
    again = RunConfig.model_validate_json(changed.model_dump_json())
    assert again == changed
    assert RunConfig.model_validate(json.loads(json.dumps(changed.model_dump(mode="json")))) == changed


def test_a_run_is_named_by_what_a_template_says_and_not_by_where_it_lies(
    config: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.jinja", tmp_path / "b.jinja"
    first.write_text("{{ messages }}")
    second.write_text("{{ messages }}")
    names = [load_config(config, [f"target.chat_template={path}"]).run_id for path in (first, second)]
    second.write_text("{{ messages }} ")
    assert names[0] == names[1]
    assert load_config(config, [f"target.chat_template={second}"]).run_id != names[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("target.chat_template=/no/such/file", "target.chat_template: '/no/such/file' cannot be read"),
        (
            "target.chat_template_kwargs={messages: []}",
            "target.chat_template_kwargs: 'messages' cannot be set",
        ),
        (
            "target.chat_template_kwargs={enable-thinking: false}",
            "target.chat_template_kwargs: 'enable-thinking' cannot be set: it cannot be the name of a "
            "template's variable",
        ),
        ("target.thought={open: x}", "target.thought.close: the key is missing"),
        ("target.date=tomorrow", "target.date: "),
    ],
)
def test_a_mistake_is_one_line(config: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
