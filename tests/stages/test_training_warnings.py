"""Warnings of finished trainings reach the user."""

import json
from pathlib import Path

from drsft.config import RunConfig
from drsft.run import layout
from drsft.run.run import Run
from drsft.stages.training import told_troubles
from drsft.storage import LocalStore


def test_troubles_are_told_with_their_arm_and_seed(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "name": "run",
            "problems": {"path": "embedded:train"},
            "target": {"model": "embedded"},
            "train": {"arms": [{"name": "one"}, {"name": "two"}], "seeds": [3]},
        }
    )
    store = LocalStore(tmp_path)
    done = {"loss_tokens": 10, "wall_s": 1.0, "num_workers": 1}
    assert told_troubles(Run(store, config)) == []
    for arm, troubles in zip(config.train.arms, (["weights vanish: …"], []), strict=True):
        key = layout.training(config.train, arm, 3).done
        store.put(key, json.dumps(done | {"troubles": troubles}).encode())
    assert told_troubles(Run(store, config)) == ["one seed 3: weights vanish: …"]
