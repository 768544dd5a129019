"""Two gloo processes with FSDP2 against one, for objectives that score and that carry a frozen copy."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from drsft.config import Arm, Guards, Objective, Train
from drsft.config.objectives import Asft, IwSft, Psft
from drsft.storage import LocalStore
from drsft.train.job import Job, Target, Training
from drsft.train.loop import train_one
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.reference import References
from drsft.train.scores import score
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import make_rows, save_tiny_model
from tests.train.test_loop import NUM_EXAMPLES as NUM_LEARNT
from tests.train.test_loop import TRAIN, metrics_in, run
from tests.train.test_references import NUM_EXAMPLES, gradients, other_model

pytestmark = pytest.mark.slow  # two processes that import torch and transformers

OBJECTIVES: list[Objective] = [IwSft(temperature=2), Asft(kl_weight=0.3)]
# Those that score before, or between, the steps.
JOBS = [
    Job(arm=Arm(name=objective.kind, objective=objective), seed=0)
    for objective in (IwSft(), Psft(steps_per_snapshot=3), Asft())
]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    world = World.current()
    rows = make_rows(NUM_EXAMPLES)
    everything = range(len(rows))
    other = ScoringModel(other_model(str(folder / "model"))).requires_grad_(False)
    shard(other, world, compute_dtype=torch.float32, by_block=True)
    scores = score(other, rows, everything, micro_batch_rows=1, world=world)
    for objective in OBJECTIVES:
        model = ScoringModel(load_model(str(folder / "model")).train())
        shard(model, world, compute_dtype=torch.float32, by_block=True)
        accumulate_gradient(
            model,
            list(everything),
            objective=objective,
            references=References(start=scores, start_model=other),
            train=Train(micro_batch_rows=1, batch_rows=64, seq_len=32),
            rows=rows,
            world=world,
        )
        whole = {
            name.removeprefix("causal_lm."): parameter.grad.full_tensor()  # type: ignore[union-attr]
            for name, parameter in model.named_parameters()
        }
        if world.is_first:
            torch.save(whole, folder / f"{objective.kind}.pt")
    target = Target(location=str(folder / "model"), compute_dtype=torch.float32)
    learnt = make_rows(NUM_LEARNT)
    for job in JOBS:
        store = LocalStore(folder / job.arm.name)
        training = Training(job=job, settings=TRAIN, target=target, rows=learnt, world=world)
        train_one(training, store=store)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_tiny_model(folder / "model", tied=False)
    mp.spawn(work, (folder,), nprocs=2)
    return folder


def test_two_processes_give_the_gradient_of_one(folder: Path) -> None:
    for objective in OBJECTIVES:
        want = gradients(str(folder / "model"), objective, micro_batch_rows=64, guards=Guards())
        got = torch.load(folder / f"{objective.kind}.pt")
        assert got.keys() == want.keys()
        for name, gradient in want.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_two_processes_learn_what_one_does(folder: Path, tmp_path: Path, job: Job) -> None:
    alone = run(str(folder / "model"), tmp_path, job=job)
    together = metrics_in(LocalStore(folder / job.arm.name))
    assert alone[-1]["ce"] < 0.98 * alone[0]["ce"], "it learns enough to tell"
    for name in ("loss", "ce"):
        assert [row[name] for row in together] == pytest.approx([row[name] for row in alone], rel=1e-4)
