"""A run keeps its first start's turn and date."""

import json
from datetime import date
from pathlib import Path

import pytest

from drsft.config import Prompts, Target
from drsft.errors import ModelError
from drsft.records import Problem
from drsft.run import layout
from drsft.stages.turn import copy_turn, run_prompter
from drsft.storage import LocalStore
from tests.support.templates import FAMILIES, folder_of

PROBLEM = Problem(problem_id="p", question="1 + 1?", demonstration="2", reference="2")


def target_of(folder: Path, **settings: object) -> Target:
    model = str(folder_of(folder / "model", FAMILIES["header"]))
    return Target.model_validate({"model": model, "prompts": Prompts(plain="{question}"), **settings})


def test_a_run_that_goes_on_the_next_day_has_the_prompts_of_the_first(tmp_path: Path) -> None:
    store, target = LocalStore(tmp_path / "run"), target_of(tmp_path)
    first = run_prompter(target, store, date="2026-11-27")
    second = run_prompter(target, store, date="2026-11-28")
    assert "2026-11-27" in second.tokenizer.decode(second.plain(PROBLEM))
    assert second.plain(PROBLEM) == first.plain(PROBLEM)
    assert second.completion("2") == first.completion("2")
    assert second.turn == first.turn
    other = run_prompter(target, LocalStore(tmp_path / "other"), date="2026-11-28")
    assert other.plain(PROBLEM) != first.plain(PROBLEM)


def test_a_later_round_keeps_the_turn_of_the_first(tmp_path: Path) -> None:
    run, target = LocalStore(tmp_path / "run"), target_of(tmp_path)
    first = run_prompter(target, run, date="2026-11-27")
    copy_turn(run, run.within("round-2"))
    assert run_prompter(target, run.within("round-2"), date="2026-12-24").turn == first.turn


def test_a_run_of_an_older_version_keeps_the_day_of_its_first_start(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    store.put(layout.MANIFEST, json.dumps({"created": "2025-03-04T10:00:00+00:00"}).encode())
    assert run_prompter(target_of(tmp_path), store, date="2026-11-28").turn.date == "2025-03-04"


def test_the_date_can_be_set(tmp_path: Path) -> None:
    target = target_of(tmp_path, date=date(2024, 7, 26))
    turn = run_prompter(target, LocalStore(tmp_path / "run"), date="2026-11-28").turn
    assert "Today is 2024-07-26." in turn.prompt


def test_a_stored_template_runs_within_limits_too(tmp_path: Path) -> None:
    store, target = LocalStore(tmp_path / "run"), target_of(tmp_path)
    run_prompter(target, store)
    stored = json.loads(store.read(layout.TURN))
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    store.put(layout.TURN, json.dumps({**stored, "template": endless}).encode())
    with pytest.raises(ModelError, match="takes more than"):
        run_prompter(target, store)
    store.put(layout.TURN, json.dumps({**stored, "prompt": "another"}).encode())
    with pytest.raises(ModelError, match="special tokens differ"):
        run_prompter(target, store)
