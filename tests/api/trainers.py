"""A tiny random model, its batches, and a step on them by drsft's own training: what trainers are held to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from drsft.bench.training.train_data import ModelShape, draw_examples, save_model
from drsft.config import Arm, Train
from drsft.objectives.meters import metrics_of
from drsft.train.encode import Example
from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import PackedRows
from drsft.train.reference import References
from drsft.train.scores import score
from drsft.train.step import accumulate_gradient
from drsft.train.world import World

__all__ = ["Bench", "padded_batch", "save_tiny_model", "step_arguments"]

SHAPE = ModelShape(vocab_size=8192, hidden_size=128, num_layers=1, intermediate_size=64)


def save_tiny_model(folder: Path, *, noise_seed: int | None = None) -> str:
    """The model's folder; with `noise_seed` its weights are moved, as those of another checkpoint."""
    save_model(folder, SHAPE)
    if noise_seed is not None:
        model = load_model(str(folder))
        generator = torch.Generator().manual_seed(noise_seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
        model.save_pretrained(folder)
    return str(folder)


def step_arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Of one step on the CPU, with the rows in their order and nothing written but its losses."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=1,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        **changes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A model, the model that it started from, and examples of unequal lengths."""

    model: str
    start: str
    examples: list[Example] = field(default_factory=lambda: draw_examples(num=6))

    def loss_and_gradient(self, arm: Arm) -> tuple[float, list[Tensor]]:
        """Those of one step of drsft's own training on all examples."""
        rows = PackedRows.of(
            [[one] for one in self.examples], seq_len=max(len(one.input_ids_T) for one in self.examples)
        )
        train = Train(seq_len=rows.seq_len, batch_rows=len(rows), micro_batch_rows=2)
        model, needs = ScoringModel(load_model(self.model).train()), arm.objective.needs
        start = ScoringModel(load_model(self.start)).eval() if needs.compares else None
        scores = None
        if start is not None and needs.start_logprobs:
            scores = score(start, rows, range(len(rows)), micro_batch_rows=2, world=World())
        sums, _ = accumulate_gradient(
            model,
            range(len(rows)),
            objective=arm.objective,
            guards=arm.guards,
            train=train,
            rows=rows,
            world=World(),
            references=References(start=scores, start_model=start if needs.start_model else None),
            progress=0.0,
        )
        gradients = [weight.grad for weight in model.causal_lm.parameters()]
        return metrics_of(sums)["loss"], [one for one in gradients if one is not None]


def padded_batch(examples: list[Example]) -> dict[str, Any]:
    """As a collator pads on the right: input_ids, attention_mask and labels, each (B, L)."""
    length = max(len(one.input_ids_T) for one in examples)
    batch = {
        "input_ids": torch.zeros(len(examples), length, dtype=torch.long),
        "attention_mask": torch.zeros(len(examples), length, dtype=torch.long),
        "labels": torch.full((len(examples), length), -100),
    }
    for row, one in enumerate(examples):
        ids_T, mask_T = torch.from_numpy(one.input_ids_T).long(), torch.from_numpy(one.loss_mask_T)
        batch["input_ids"][row, : len(ids_T)] = ids_T
        batch["attention_mask"][row, : len(ids_T)] = 1
        batch["labels"][row, : len(ids_T)] = ids_T.masked_fill(~mask_T, -100)
    return batch
