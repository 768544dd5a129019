"""Checkpoints on a store that fails: tried again, and never committed by halves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from drsft.errors import StorageError
from drsft.storage import LocalStore
from drsft.train import checkpoint
from drsft.train.checkpoint import Checkpointer, commits, load_latest
from drsft.train.world import World


class FlakyStore(LocalStore):
    """Fails the first `num_failures` puts."""

    def __init__(self, root: Path, *, num_failures: int) -> None:
        super().__init__(root)
        self.failures: Iterator[int] = iter(range(num_failures))

    def put_file(self, key: str, path: Path) -> None:
        if next(self.failures, None) is not None:
            raise StorageError("the store is away")
        super().put_file(key, path)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LONGEST_PAUSE_S", 0.0)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return model, optimiser


def test_a_passing_fault_of_the_store_costs_nothing(tmp_path: Path) -> None:
    store = FlakyStore(tmp_path, num_failures=checkpoint.NUM_ATTEMPTS - 1)
    model, optimiser = trained()
    checkpointer = Checkpointer(store, World(), num_kept=2)
    checkpointer.save(model, optimiser, step=7)
    checkpointer.finish()
    other, other_optimiser = trained()
    assert load_latest(LocalStore(tmp_path), other, other_optimiser, world=World()) == 7
    torch.testing.assert_close(dict(other.named_parameters()), dict(model.named_parameters()))
    state, wanted = (one.state_dict()["state"] for one in (other_optimiser, optimiser))
    torch.testing.assert_close(state, wanted)


def test_a_store_that_stays_away_ends_the_job_without_a_commit(tmp_path: Path) -> None:
    store = FlakyStore(tmp_path, num_failures=1000)
    checkpointer = Checkpointer(store, World(), num_kept=2)
    checkpointer.save(*trained(), step=7)
    with pytest.raises(StorageError, match="the store is away"):
        checkpointer.finish()
    assert commits(LocalStore(tmp_path)) == []


def test_the_best_stays_beside_the_newest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    checkpointer = Checkpointer(store, World(), num_kept=2)
    for step, score in enumerate([3.0, 1.0, 2.0, 2.5, 2.2], start=1):
        checkpointer.save(*trained(), step=step, score=score)
    checkpointer.finish()
    assert [commit.step for commit in commits(store)] == [2, 4, 5]


@pytest.mark.parametrize("is_fused", [True, False])
def test_a_resume_begins_with_the_state_of_a_first_step(is_fused: bool) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        model.bias.requires_grad_(False)
        return model, torch.optim.AdamW(model.parameters(), fused=is_fused)

    (stepped, theirs), (begun, ours) = made(), made()
    stepped(torch.ones(1, 3)).sum().backward()
    theirs.step()
    checkpoint._begin_state(ours)
    wanted, found = theirs.state_dict()["state"], ours.state_dict()["state"]
    assert found.keys() == wanted.keys()
    for index, values in wanted.items():
        for name, tensor in values.items():
            assert (found[index][name].shape, found[index][name].dtype) == (tensor.shape, tensor.dtype), name
    assert begun.weight.grad is None
