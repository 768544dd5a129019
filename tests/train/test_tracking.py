"""What trackers hear, read back from where they keep it."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from drsft.errors import SetupError
from drsft.run import layout
from drsft.storage import LocalStore
from drsft.train import loop
from drsft.train.tracking import Tracker, open_trackers
from tests.support.train import save_tiny_model
from tests.train.test_loop import JOB, TRAIN, KilledError, run


def events(folder: Path) -> list[Event]:
    """All of a folder's event files in the order in which they were begun."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # a record: length (8), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def curve(folder: Path, name: str) -> dict[int, float]:
    values = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.tag == name:
                values[event.step] = value.simple_value
    return values


def test_tensorboard_shows_every_step_also_after_a_restart(tmp_path: Path) -> None:
    location = save_tiny_model(tmp_path / "model")
    with pytest.raises(KilledError):
        run(location, tmp_path / "run", die_after=5)
    metrics = run(location, tmp_path / "run")
    found = curve(tmp_path / "run/tensorboard", "loss")
    assert found == pytest.approx({row["step"]: row["loss"] for row in metrics})


def test_trainings_of_other_settings_have_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = save_tiny_model(tmp_path / "model")
    names: list[str] = []

    def named(*_: Any, job: str, **__: Any) -> list[Tracker]:
        names.append(job)
        return []

    monkeypatch.setattr(loop, "open_trackers", named)
    slower = TRAIN.model_copy(update={"learning_rate": TRAIN.learning_rate / 2})
    for number, train in enumerate((TRAIN, slower, TRAIN)):
        run(location, tmp_path / str(number), train=train)
        assert f"train/{names[-1]}" == layout.training(train, JOB.arm, JOB.seed).prefix, (
            "named as its folder is"
        )
    assert names[0] != names[1]
    assert names[0] == names[2], "and a start anew goes on with what is there"


def test_no_tracker_writes_nothing(tmp_path: Path) -> None:
    location = save_tiny_model(tmp_path / "model")
    run(location, tmp_path / "run", train=TRAIN.model_copy(update={"trackers": ()}))
    assert not (tmp_path / "run/tensorboard").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_tracker_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(SetupError, match=rf"{name} is not installed: pip install 'drsft\[{name}\]'"):
        open_trackers([name], LocalStore(tmp_path), run="run", job="job", first_step=0)  # type: ignore[list-item]
