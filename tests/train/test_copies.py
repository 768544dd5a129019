"""Four gloo processes as two nodes of two: a copy of the state for each node, against one for all."""

import faulthandler
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from drsft.config import Dft
from drsft.storage import LocalStore
from drsft.train import units
from drsft.train.job import Target, Training
from drsft.train.loop import train_one
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import make_examples, make_rows, oracle_gradients, save_tiny_model
from tests.train.test_loop import JOB, NUM_EXAMPLES, TRAIN, KilledError, metrics_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # four processes that import torch

NUM_WORKERS = 4
CASES = [
    (num_shards, by_block, micro_batch_rows)
    for num_shards in (1, 2)
    for by_block in (True, False)
    for micro_batch_rows in (1, 64)
]
SETTINGS = TRAIN.model_copy(update={"batch_rows": 12, "micro_batch_rows": 1, "num_epochs": 5})
TRAININGS = {"full": (4, 4), "hybrid": (2, 2), "resumed": (2, 2), "spread": (2, 4), "gathered": (4, 2)}


def work(rank: int, folder: Path) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=NUM_WORKERS)
    world = World.current()
    worlds = {num_shards: world.in_copies(num_shards) for num_shards in (1, 2, 4)}
    for case in CASES:
        save_gradients(folder, case, worlds[case[0]])
    units.MOST_PARAMETERS = 0  # each block is a unit, as in a large model
    for name, (before, after) in TRAININGS.items():
        train(folder, name, worlds[before], worlds[after], is_resumed=name not in ("full", "hybrid"))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # trainings that died in here have left their threads behind


def save_gradients(folder: Path, case: tuple[int, bool, int], world: World) -> None:
    _, by_block, micro_batch_rows = case
    model = ScoringModel(load_model(str(folder / "model")))
    shard(model, world, compute_dtype=torch.float32, by_block=by_block)
    rows, optimiser = make_rows(NUM_EXAMPLES), make_optimiser(model, SETTINGS)
    settings = SETTINGS.model_copy(update={"micro_batch_rows": micro_batch_rows})
    indices = list(range(len(rows)))
    _, norm = accumulate_gradient(model, indices, objective=Dft(), train=settings, rows=rows, world=world)
    whole = {"norm": torch.tensor(norm)}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter.grad, DTensor)
        whole[name.removeprefix("causal_lm.")] = parameter.grad.full_tensor()
    optimiser.step()
    local = torch.cat([parameter.to_local().flatten() for parameter in model.parameters()])  # type: ignore[attr-defined]
    assert len(local) < 1.1 * sum(p.numel() for p in model.parameters()) / case[0] + 100
    shards: list[torch.Tensor | None] = [None] * NUM_WORKERS
    dist.all_gather_object(shards, local)
    for mine, other in zip(shards, shards[case[0] :], strict=False):
        assert mine is not None
        assert other is not None
        assert torch.equal(mine, other), "copies drift apart"
    if world.is_first:
        torch.save(whole, folder / f"{case}.pt")


def train(folder: Path, name: str, before: World, after: World, *, is_resumed: bool) -> None:
    """Trains in the world `before`; if it is to be resumed it dies there, and goes on in `after`."""
    target = Target(location=str(folder / "model"), compute_dtype=torch.float32)
    rows, store = make_rows(NUM_EXAMPLES), LocalStore(folder / name)

    def die(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    if is_resumed:
        first = Training(job=JOB, settings=SETTINGS, target=target, rows=rows, world=before)
        with pytest.raises(KilledError):
            train_one(first, store=store, on_step=die)
    training = Training(job=JOB, settings=SETTINGS, target=target, rows=rows, world=after)
    train_one(training, store=store)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    save_tiny_model(folder / "model", tied=False)
    mp.spawn(work, (folder,), nprocs=NUM_WORKERS)
    return folder


@pytest.mark.parametrize("case", CASES, ids=str)
def test_copies_give_the_gradient_of_the_definition(folder: Path, case: tuple[int, bool, int]) -> None:
    causal_lm = load_model(str(folder / "model"))
    want = oracle_gradients(causal_lm, make_examples(NUM_EXAMPLES), is_dft=True)
    got = torch.load(folder / f"{case}.pt")
    norm = torch.cat([gradient.flatten() for gradient in want.values()]).norm()
    torch.testing.assert_close(got.pop("norm"), norm, rtol=1e-5, atol=0)
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def weights_of(folder: Path) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in load_file(folder / "export/model.safetensors").values()])


@pytest.mark.parametrize("name", [name for name in TRAININGS if name != "full"])
def test_a_training_is_the_same_with_copies(folder: Path, name: str) -> None:
    """Also when it is resumed from a checkpoint of as many shards, of fewer, or of more."""
    whole, copied = (metrics_in(LocalStore(folder / one)) for one in ("full", name))
    assert [row["step"] for row in copied] == [row["step"] for row in whole]
    for metric in ("loss", "grad_norm"):
        pairs = [(a[metric], b[metric]) for a, b in zip(copied, whole, strict=True)]
        print(f"{name}: {metric} differs by {max(abs(a / b - 1) for a, b in pairs):.1e}")
        assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-4)
    ours, theirs = weights_of(folder / name), weights_of(folder / "full")
    print(f"{name}: weights differ by {((ours - theirs).norm() / theirs.norm()).item():.1e}")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_a_training_with_copies_resumes_bit_for_bit(folder: Path) -> None:
    assert metrics_in(LocalStore(folder / "resumed")) == metrics_in(LocalStore(folder / "hybrid"))


def test_a_checkpoint_holds_one_copy(folder: Path) -> None:
    sizes = [
        sum(path.stat().st_size for path in (folder / name / "checkpoints").rglob("*.distcp"))
        for name in ("full", "hybrid")
    ]
    assert sizes[1] <= sizes[0]


def test_one_process_goes_on_from_a_checkpoint_with_copies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(
        folder / "hybrid", tmp_path / "moved", ignore=shutil.ignore_patterns("done.json", "export")
    )
    target = Target(location=str(folder / "model"), compute_dtype=torch.float32)
    rows = make_rows(NUM_EXAMPLES)
    training = Training(job=JOB, settings=SETTINGS, target=target, rows=rows, world=World())
    train_one(training, store=LocalStore(tmp_path / "moved"))  # all steps are done: it exports
    assert torch.equal(weights_of(tmp_path / "moved"), weights_of(folder / "hybrid"))
