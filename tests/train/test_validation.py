"""Held-out rows: scored with every checkpoint, the best weights kept and exported."""

import json
from pathlib import Path

import pytest
import torch

from drsft.config import Train
from drsft.errors import StageError
from drsft.run import layout
from drsft.storage import LocalStore
from drsft.train.checkpoint import Commit, best, commits
from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import PackedRows
from drsft.train.packed_data import pack_data, read_packed
from drsft.train.validation import validate
from drsft.train.world import World
from tests.support.train import make_records, make_rows, save_tiny_model, scored
from tests.train.test_loop import TRAIN, run

OVERFITTING = TRAIN.model_copy(
    update={"validation_share": 0.2, "export": "best", "num_epochs": 6, "learning_rate": 3e-2}
)


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def test_validation_is_the_mean_over_the_held_out_loss_tokens(location: str) -> None:
    model = ScoringModel(load_model(location).train())
    rows = make_rows(9, seed=5)
    found = validate(model, rows, micro_batch_rows=2, world=World())
    assert model.training
    assert found["validation_ce"] == pytest.approx(-scored(model, rows).mean().item(), rel=1e-6)
    assert found["validation_accuracy"] == pytest.approx(greedy_share(model, rows), abs=1e-12)


def greedy_share(model: ScoringModel, rows: PackedRows) -> float:
    """Of the loss tokens, text by text and from all logits."""
    documents = rows.documents(range(len(rows)))
    is_top, start = [], 0
    for length in documents.lengths:
        ids_T = torch.from_numpy(documents.input_ids_T[start : start + length].astype("int64"))
        is_loss_T = torch.from_numpy(documents.loss_mask_T[start : start + length])
        with torch.no_grad():
            chosen_T = model.causal_lm(ids_T[None], use_cache=False).logits[0, :-1].argmax(-1)
        is_top.append((chosen_T == ids_T[1:])[is_loss_T[1:]])
        start += length
    return torch.cat(is_top).double().mean().item()


def test_the_best_weights_are_kept_and_exported(location: str, tmp_path: Path) -> None:
    held_out = make_rows(9, seed=5)
    metrics = run(location, tmp_path, train=OVERFITTING, held_out=held_out)
    scores = {row["step"]: row["validation_ce"] for row in metrics if "validation_ce" in row}
    lowest = min(scores, key=lambda step: (scores[step], step))
    assert lowest < max(scores) - 4, "it should overfit, or this proves nothing"
    kept = {commit.step: commit.score for commit in commits(LocalStore(tmp_path))}
    assert kept[lowest] == scores[lowest]
    exported = ScoringModel(load_model(str(tmp_path / "export")))
    assert -scored(exported, held_out).mean().item() == pytest.approx(scores[lowest], rel=1e-4)


def test_the_best_is_the_lowest_score_and_the_earliest_of_equals() -> None:
    def commit(step: int, score: float | None) -> Commit:
        return Commit(step=step, num_workers=1, score=score)

    assert best([commit(1, None)]) is None
    assert best([commit(1, 2.0), commit(2, 1.0), commit(3, 1.0)]) == commit(2, 1.0)


def test_a_problem_is_learnt_or_held_out_and_never_both(tmp_path: Path) -> None:
    store, train = LocalStore(tmp_path), Train(seq_len=32, validation_share=0.3)
    pack_data(store, make_records(60), "rewritten", train)
    view = read_packed(store, "rewritten", train)
    assert view.held_out is not None
    learnt, held_out = set(view.learnt.problem_ids), set(view.held_out.problem_ids)
    assert not learnt & held_out
    assert len(learnt | held_out) == 60
    assert 6 < len(held_out) < 30
    counts = json.loads(store.read(layout.packed_rows(train, "rewritten").commit))
    assert (counts["examples"], counts["held_out"]) == (len(learnt), len(held_out))


def test_a_share_that_holds_nothing_out_is_refused(tmp_path: Path) -> None:
    train = Train(seq_len=32, validation_share=0.001)
    with pytest.raises(StageError, match="validation_share"):
        pack_data(LocalStore(tmp_path), make_records(5), "rewritten", train)
