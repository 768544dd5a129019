"""Runs drsft's side of `drsft bench train` in one process: `python -m drsft.bench.training.train_ours
WORK`.
"""

import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from drsft.bench.training.train_data import Work
from drsft.config import Arm, Dft, Sft, Train
from drsft.process.memory import peak_rss_mb
from drsft.train.encode import Example
from drsft.train.job import Job, Target, Training
from drsft.train.optimiser import make_optimiser
from drsft.train.order import RowOrder
from drsft.train.pack import PackedRows, pack
from drsft.train.prepare import prepare_model
from drsft.train.step import train_step
from drsft.train.world import World

__all__: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOrder(RowOrder):
    """Takes the rows in the file's order, so that drsft and TRL train on equal batches."""

    def rows_of(self, step: int) -> NDArray[np.int64]:
        return np.arange(step * self.batch_rows, min((step + 1) * self.batch_rows, self.num_rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedTraining(Training):
    num_steps: int

    @property
    def order(self) -> RowOrder:
        batch_rows = self.settings.batch_rows
        num_rows = min(len(self.rows), self.num_steps * batch_rows)
        return GivenOrder(num_rows=num_rows, batch_rows=batch_rows, num_epochs=1, seed=0)


def main() -> None:
    work = Work.read(sys.argv[1])
    torch.set_num_threads(work.num_threads)
    rows = _rows(work)
    examples_a_row = len(rows.problem_ids) / len(rows)
    batch_rows = max(1, round(work.batch_examples / examples_a_row))
    micro_batch_rows = max(1, round(work.micro_batch_examples / examples_a_row))
    train = Train(
        seq_len=work.seq_len,
        batch_rows=batch_rows,
        micro_batch_rows=micro_batch_rows,
        learning_rate=work.learning_rate,
        max_grad_norm=work.max_grad_norm,
        weight_decay=work.weight_decay,
        adam_betas=work.adam_betas,
        warmup_ratio=0,
        activation_checkpointing=work.activation_checkpointing,
    )
    training = OrderedTraining(
        job=Job(arm=Arm(name="bench", objective=Dft() if work.objective == "dft" else Sft()), seed=0),
        settings=train,
        target=Target(location=work.model, compute_dtype=torch.float32),
        rows=rows,
        world=World(),
        num_steps=work.num_steps,
    )
    model, order = prepare_model(training), training.order
    optimiser = make_optimiser(model, train)
    losses, ends_s = [], []
    for step in range(order.num_steps):
        losses.append(train_step(training, model, optimiser, step)["loss"])
        ends_s.append(time.perf_counter())
    tokens = [rows.num_tokens(order.rows_of(step)) for step in range(1, len(ends_s))]
    seconds = ends_s[-1] - ends_s[0]  # the first step warms up
    print(json.dumps({"losses": losses, "tokens_per_s": sum(tokens) / seconds, "peak_rss_mb": peak_rss_mb()}))


def _rows(work: Work) -> PackedRows:
    table = pq.read_table(work.examples)
    examples = [
        Example(
            problem_id=f"{index:06d}",
            source="expert",
            input_ids_T=np.array(row["input_ids"], dtype=np.int32),
            loss_mask_T=np.array(row["completion_mask"], dtype=np.bool_),
            thought_mask_T=np.zeros(len(row["input_ids"]), dtype=np.bool_),
        )
        for index, row in enumerate(table.to_pylist())
    ]
    if work.layout == "unpacked":
        # As many tokens per forward as the peer has with padding: a full row is as long as the longest text.
        longest = max(len(example.input_ids_T) for example in examples)
        return PackedRows.of([[example] for example in examples], seq_len=longest)
    return pack(examples, seq_len=work.seq_len)


if __name__ == "__main__":
    main()
