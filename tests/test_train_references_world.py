"""Two gloo processes with FSDP2 against one, for objectives that score and that carry a frozen copy."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_train_references import NUM_EXAMPLES, gradients, other_model
from train_support import make_rows, save_tiny_model

from drsft.config import Guards, Objective, Train
from drsft.config.objectives import Asft, IwSft
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.reference import References, score
from drsft.train.step import accumulate_gradient
from drsft.train.world import World

pytestmark = pytest.mark.slow  # two processes that import torch and transformers

OBJECTIVES: list[Objective] = [IwSft(temperature=2), Asft(kl_weight=0.3)]


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
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    location = save_tiny_model(tmp_path / "model", tied=False)
    mp.spawn(work, (tmp_path,), nprocs=2)
    for objective in OBJECTIVES:
        want = gradients(location, objective, micro_batch_rows=64, guards=Guards())
        got = torch.load(tmp_path / f"{objective.kind}.pt")
        assert got.keys() == want.keys()
        for name, gradient in want.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
