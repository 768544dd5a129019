"""Token probabilities before and after training: counted right, noted once, those of the exported model."""

import json
from pathlib import Path

import numpy as np
import pytest

from drsft.config import Sft
from drsft.run.layout import TRAINING
from drsft.storage import LocalStore
from drsft.train import probabilities
from drsft.train.model import ScoringModel, load_model
from drsft.train.probabilities import (
    LOG10_EDGES,
    count_probabilities,
    note_probabilities,
    sampled_rows,
)
from drsft.train.world import World
from tests.support.train import make_rows, make_training, save_tiny_model, scored
from tests.train.test_loop import NUM_EXAMPLES, TRAIN, run


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def _counted_slowly(log10_ps: list[float]) -> list[int]:
    counts = [0] * (len(LOG10_EDGES) - 1)
    for value in log10_ps:
        at = max((index for index, low in enumerate(LOG10_EDGES[:-1]) if value >= low), default=0)
        counts[at] += 1
    return counts


def test_counts_are_those_of_every_loss_token(location: str) -> None:
    model, rows = ScoringModel(load_model(location).train()), make_rows(9, seed=5)
    found = count_probabilities(model, rows, micro_batch_rows=2, world=World())
    assert model.training
    log10_ps = (scored(model, rows).double() / np.log(10)).tolist()
    assert found == _counted_slowly(log10_ps)
    assert sum(found) == rows.num_loss_tokens(range(len(rows)))


def test_a_large_training_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(60)
    assert sampled_rows(rows).tolist() == list(range(len(rows)))
    monkeypatch.setattr(probabilities, "SAMPLE_TOKENS", rows.num_loss_tokens(range(len(rows))) // 4)
    sampled = sampled_rows(rows)
    assert len(sampled) == pytest.approx(len(rows) / 4, abs=1)
    assert (sampled[0], sampled[-1]) == (0, len(rows) - 1)
    assert len(set(np.diff(sampled).tolist())) <= 2


def test_a_training_notes_both_ends_and_a_second_start_keeps_them(location: str, tmp_path: Path) -> None:
    run(location, tmp_path)
    store, rows = LocalStore(tmp_path), make_rows(NUM_EXAMPLES)
    noted = json.loads(store.read(TRAINING.probabilities))
    assert tuple(noted["log10_edges"]) == LOG10_EDGES
    exported = ScoringModel(load_model(str(tmp_path / "export")))
    after = count_probabilities(exported, rows, micro_batch_rows=2, world=World())
    moved = np.abs(np.subtract(after, noted["after"])).sum()
    assert moved <= 2, "at most a token at a bin's edge"
    assert np.abs(np.subtract(after, noted["before"])).sum() > 20
    untrained = ScoringModel(load_model(location))
    note_probabilities("after", make_training(location, rows, TRAIN, Sft()), store, untrained)
    assert json.loads(store.read(TRAINING.probabilities)) == noted
