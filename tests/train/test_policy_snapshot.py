"""Objectives that compare with the policy itself some steps ago, also after a restart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drsft.config import Arm
from drsft.config.objectives import Psft
from drsft.errors import StorageError
from drsft.storage import LocalStore
from drsft.train.checkpoint import commits
from drsft.train.job import Job
from tests.support.train import save_tiny_model
from tests.train.test_loop import TRAIN, KilledError, run

WINDOW = 3  # steps of a snapshot


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=False)


@pytest.fixture(scope="module")
def uninterrupted(location: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(location, tmp_path_factory.mktemp("whole"), job=psft(WINDOW))


def psft(steps_per_snapshot: int) -> Job:
    return Job(arm=Arm(name="psft", objective=Psft(steps_per_snapshot=steps_per_snapshot)), seed=0)


def interrupted(location: str, folder: Path, job: Job, *, after: int) -> None:
    """A training that is told to save itself after so many steps, and dies after the next."""
    seen: list[int] = []
    with pytest.raises(KilledError):
        run(
            location,
            folder,
            job=job,
            seen=seen,
            die_after=after + 1,
            wants_checkpoint=lambda: seen[-1] == after,
        )
    assert commits(LocalStore(folder))[-1].step == after


def test_psft_is_1_where_its_snapshot_is_fresh(location: str, tmp_path: Path) -> None:
    rows = run(location, tmp_path, job=psft(2))
    fresh = [row["loss"] for row in rows[::2]]
    assert fresh == pytest.approx([-1.0] * len(fresh), abs=1e-5)
    assert all(abs(row["loss"] + 1) > 1e-4 for row in rows[1::2])


@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
def test_psft_resumed_inside_a_window_equals_not_stopping(
    location: str, uninterrupted: list[dict[str, Any]], tmp_path: Path, after: int
) -> None:
    interrupted(location, tmp_path, psft(WINDOW), after=after)
    assert run(location, tmp_path, job=psft(WINDOW)) == uninterrupted


def test_only_checkpoints_inside_a_window_keep_the_snapshot(location: str, tmp_path: Path) -> None:
    train = TRAIN.model_copy(update={"checkpoint_every_steps": 1, "num_checkpoints": 100})
    run(location, tmp_path, job=psft(WINDOW), train=train)
    keeping = {path.parent.name for path in tmp_path.glob("checkpoints/*/snapshot-logprobs.npy")}
    steps = [commit.step for commit in commits(LocalStore(tmp_path))]
    assert keeping == {f"step-{step:06d}" for step in steps if step % WINDOW}


def test_a_snapshot_that_is_damaged_or_of_other_rows_is_refused(location: str, tmp_path: Path) -> None:
    interrupted(location, tmp_path, psft(WINDOW), after=4)
    kept = tmp_path / "checkpoints/step-000004/snapshot-logprobs.npy"
    np.save(kept, np.zeros(3, dtype=np.float32))
    with pytest.raises(StorageError, match="step 4 belongs to other rows"):
        run(location, tmp_path, job=psft(WINDOW))
    for damaged in (b"", kept.read_bytes()[:90], b"no array"):
        kept.write_bytes(damaged)
        with pytest.raises(StorageError, match="step 4 cannot be read"):
            run(location, tmp_path, job=psft(WINDOW))
