"""One step's gradient for any split of its work, against the definition.

The definition scores one text after another, with all logits, and shares no code with the step.
Everything is fp32, so what remains is rounding.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes

from drsft.bench.training.train_data import ModelShape, draw_examples, save_model
from drsft.config import Dft, Objective, Sft, Train
from drsft.train.encode import Example
from drsft.train.micro_batch import split_rows
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.pack import PackedRows, pack
from drsft.train.step import accumulate_gradient
from drsft.train.world import World

__all__ = ["CASES", "Case", "Parity", "bench_parity", "print_parity"]

SHAPE = ModelShape(vocab_size=8192, hidden_size=128, num_layers=2, intermediate_size=256)
NUM_EXAMPLES, SEQ_LEN = 16, 512
OBJECTIVES: dict[str, Objective] = {"sft": Sft(), "dft": Dft()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to compute a step's gradient."""

    packed: bool = False
    micro_batch_rows: int = 1
    num_workers: int = 1
    activation_checkpointing: bool = False
    chunk_tokens: int | None = None

    def rows_of(self, examples: list[Example]) -> PackedRows:
        return pack(examples, seq_len=SEQ_LEN, one_a_row=not self.packed)

    def num_forwards(self, rows: PackedRows) -> int:
        """Of each worker: the micro-batches whose gradients are added up."""
        world = World(size=self.num_workers)
        indices, size = range(len(rows)), self.micro_batch_rows
        return len(split_rows(rows, indices, micro_batch_rows=size, by_tokens=True, world=world))


CASES = (
    Case(),
    Case(micro_batch_rows=2),
    Case(micro_batch_rows=4),
    Case(micro_batch_rows=8),
    Case(micro_batch_rows=16),
    Case(packed=True),
    Case(packed=True, micro_batch_rows=2),
    Case(packed=True, micro_batch_rows=8),
    Case(packed=True, micro_batch_rows=2, activation_checkpointing=True),
    Case(packed=True, micro_batch_rows=2, chunk_tokens=7),
    Case(packed=True, micro_batch_rows=2, chunk_tokens=64),
    Case(packed=True, micro_batch_rows=2, chunk_tokens=4096),
    Case(micro_batch_rows=2, num_workers=2),
    Case(packed=True, num_workers=2),
    Case(packed=True, micro_batch_rows=2, num_workers=2, activation_checkpointing=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """‖g − definition‖ / ‖definition‖ over the whole gradient, by objective."""

    case: Case
    num_forwards: int
    errors: dict[str, float]


def bench_parity() -> list[Parity]:
    examples = draw_examples(num=NUM_EXAMPLES)
    with tempfile.TemporaryDirectory(prefix="drsft-parity-") as name:
        folder = Path(name)
        save_model(folder / "model", SHAPE)
        wanted = {kind: _definition(folder / "model", examples, kind) for kind in OBJECTIVES}
        _save_gradients(folder, 1, World())
        start_processes(_work, (folder,), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]
        return [_parity(folder, index, case, examples, wanted) for index, case in enumerate(CASES)]


def _definition(model: Path, examples: list[Example], kind: str) -> Tensor:
    causal_lm = load_model(str(model))
    num_loss_tokens = sum(int(example.loss_mask_T.sum()) for example in examples)
    for example in examples:
        ids_T = torch.from_numpy(example.input_ids_T).long()
        logp_TV = causal_lm(ids_T[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        logp_T = logp_TV.gather(-1, ids_T[1:, None])[:, 0][torch.from_numpy(example.loss_mask_T)[1:]]
        weight_T = logp_T.detach().exp() if kind == "dft" else torch.ones_like(logp_T)
        torch.autograd.backward(-(weight_T * logp_T).sum() / num_loss_tokens)
    return _flat(causal_lm)


def _work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    _save_gradients(folder, 2, World.current())
    dist.barrier()  # a process that leaves while another still speaks to it would abort that one
    dist.destroy_process_group()


def _save_gradients(folder: Path, num_workers: int, world: World) -> None:
    for index, case in enumerate(CASES):
        if case.num_workers == num_workers:
            for kind in OBJECTIVES:
                gradient = _gradient(folder / "model", case, kind, world)
                if world.is_first:
                    torch.save(gradient, folder / f"{index}-{kind}.pt")


def _gradient(location: Path, case: Case, kind: str, world: World) -> Tensor:
    rows = case.rows_of(draw_examples(num=NUM_EXAMPLES))
    model = ScoringModel(
        load_model(str(location)).train(), activation_checkpointing=case.activation_checkpointing
    )
    if world.size > 1:
        shard(model, world, compute_dtype=torch.float32)
    accumulate_gradient(
        model,
        range(len(rows)),
        objective=OBJECTIVES[kind],
        train=Train(seq_len=SEQ_LEN, micro_batch_rows=case.micro_batch_rows),
        rows=rows,
        world=world,
        chunk_tokens=case.chunk_tokens,
    )
    return _flat(model.causal_lm)


def _flat(causal_lm: torch.nn.Module) -> Tensor:
    """The gradient as one vector, in the model's own order."""
    gradients = [p.grad for p in causal_lm.parameters() if p.grad is not None]
    whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
    return torch.cat([gradient.flatten() for gradient in whole]).double()


def _parity(
    folder: Path, index: int, case: Case, examples: list[Example], wanted: dict[str, Tensor]
) -> Parity:
    errors = {}
    for kind, definition in wanted.items():
        gradient = torch.load(folder / f"{index}-{kind}.pt")
        errors[kind] = ((gradient - definition).norm() / definition.norm()).item()
    return Parity(case=case, num_forwards=case.num_forwards(case.rows_of(examples)), errors=errors)


def print_parity(found: list[Parity], console: Console | None = None) -> None:
    headings = ("rows", "micro-batch", "accumulated", "workers", "checkpointing", "chunk")
    table = Table(*headings, *found[0].errors, title="relative error of the gradient, fp32")
    for one in found:
        case = one.case
        table.add_row(
            "packed" if case.packed else "single",
            str(case.micro_batch_rows),
            str(one.num_forwards),
            str(case.num_workers),
            "on" if case.activation_checkpointing else "off",
            str(case.chunk_tokens or "auto"),
            *(f"{error:.1e}" for error in one.errors.values()),
        )
    (console or Console()).print(table)


def main() -> None:
    """One step's gradient for every way to split its work, against the definition; ends with 1 above 1e-5."""
    found = bench_parity()
    print_parity(found)
    if max(error for one in found for error in one.errors.values()) > 1e-5:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
