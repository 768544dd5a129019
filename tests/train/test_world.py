"""Two gloo processes with FSDP2 against one: the same gradient, the same run, from either's checkpoint."""

import faulthandler
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DTensor

from drsft.config import Dft
from drsft.storage import LocalStore
from drsft.train.job import Target, Training
from drsft.train.loop import train_one
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import make_examples, make_rows, oracle_gradients, save_tiny_model
from tests.train.test_loop import JOB, NUM_EXAMPLES, TRAIN, KilledError, metrics_in, run

pytestmark = pytest.mark.slow  # two processes that import torch and transformers

CASES = [
    (tied, by_block, micro_batch_rows)
    for tied in (True, False)
    for by_block in (True, False)
    for micro_batch_rows in (1, 2, 64)
]


def work(rank: int, folder: Path) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    world = World.current()
    for case in CASES:
        save_gradients(folder, case, world)
    target = Target(location=str(folder / "tied"), compute_dtype=torch.float32)
    rows = make_rows(NUM_EXAMPLES)

    def die(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    training = Training(job=JOB, settings=TRAIN, target=target, rows=rows, world=world)
    train_one(training, store=LocalStore(folder / "whole"))
    for name in ("resumed", "moved"):
        with pytest.raises(KilledError):
            train_one(training, store=LocalStore(folder / name), on_step=die)
    train_one(training, store=LocalStore(folder / "resumed"))
    dist.barrier()  # a process that leaves while another still speaks to it would abort that one
    dist.destroy_process_group()
    # The trainings that died in here have left their threads behind, as a process that dies does not; while
    # the interpreter takes itself apart they can abort it.
    os._exit(0)


def save_gradients(folder: Path, case: tuple[bool, bool, int], world: World) -> None:
    tied, by_block, micro_batch_rows = case
    model = ScoringModel(load_model(str(folder / ("tied" if tied else "untied"))))
    shard(model, world, compute_dtype=torch.float32, by_block=by_block)
    rows = make_rows(NUM_EXAMPLES)
    train = TRAIN.model_copy(update={"micro_batch_rows": micro_batch_rows})
    indices = list(range(len(rows)))
    _, norm = accumulate_gradient(model, indices, objective=Dft(), train=train, rows=rows, world=world)
    whole = {"norm": torch.tensor(norm)}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter.grad, DTensor)
        whole[name.removeprefix("causal_lm.")] = parameter.grad.full_tensor()
    if world.is_first:
        torch.save(whole, folder / f"{case}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for tied in (True, False):
        save_tiny_model(folder / ("tied" if tied else "untied"), tied=tied)
    mp.spawn(work, (folder,), nprocs=2)
    return folder


def test_the_rows_do_not_split_evenly() -> None:
    assert len(make_rows(NUM_EXAMPLES)) % 2 == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_give_the_gradient_of_the_definition(
    folder: Path, case: tuple[bool, bool, int]
) -> None:
    causal_lm = load_model(str(folder / ("tied" if case[0] else "untied")))
    want = oracle_gradients(causal_lm, make_examples(NUM_EXAMPLES), is_dft=True)
    got = torch.load(folder / f"{case}.pt")
    norm = torch.cat([gradient.flatten() for gradient in want.values()]).norm()
    torch.testing.assert_close(got.pop("norm"), norm, rtol=1e-5, atol=0)
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_two_processes_resume_bit_for_bit(folder: Path) -> None:
    assert metrics_in(LocalStore(folder / "resumed")) == metrics_in(LocalStore(folder / "whole"))


def test_one_process_goes_on_from_a_checkpoint_of_two(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "moved", tmp_path / "moved")
    moved = run(str(folder / "tied"), tmp_path / "moved")
    whole = metrics_in(LocalStore(folder / "whole"))
    assert [row["step"] for row in moved] == [row["step"] for row in whole]
    assert [row["loss_tokens"] for row in moved] == [row["loss_tokens"] for row in whole]
    assert [row["loss"] for row in moved] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


def test_one_process_trains_as_two_do(folder: Path, tmp_path: Path) -> None:
    alone = run(str(folder / "tied"), tmp_path)
    whole = metrics_in(LocalStore(folder / "whole"))
    assert [row["loss"] for row in alone] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
