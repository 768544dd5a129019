"""Defines one training: its job, target, settings and rows."""

from dataclasses import dataclass

import torch

from drsft.config import Arm, Objective, Train
from drsft.train.order import RowOrder
from drsft.train.pack import PackedRows
from drsft.train.world import World

__all__ = ["Job", "Target", "Training", "jobs_of", "row_order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One arm with one seed. The seed orders the rows and draws the dropout, if the model has any."""

    arm: Arm
    seed: int

    def __str__(self) -> str:
        return f"{self.arm.name} seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The model that training starts from."""

    location: str  # a folder or a hub name
    compute_dtype: torch.dtype  # of forward and backward, and of the export; master weights are fp32
    chat_template: str | None = None  # what the export says in place of the model's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A job with its settings, model, rows and processes; equal on all processes, except `world`."""

    job: Job
    settings: Train
    target: Target
    rows: PackedRows
    held_out: PackedRows | None = None  # scored with every checkpoint
    world: World

    @property
    def objective(self) -> Objective:
        return self.job.arm.objective

    @property
    def order(self) -> RowOrder:
        return row_order(self.settings, num_rows=len(self.rows), seed=self.job.seed)

    def is_checkpoint_due(self, num_done: int) -> bool:
        """Returns whether a checkpoint is to be saved after `num_done` steps.

        It is also saved after the last step, in case the export fails.
        """
        return num_done % self.settings.checkpoint_every_steps == 0 or num_done == self.order.num_steps


def jobs_of(train: Train) -> list[Job]:
    return [Job(arm=arm, seed=seed) for seed in train.seeds for arm in train.arms]


def row_order(train: Train, *, num_rows: int, seed: int) -> RowOrder:
    return RowOrder(num_rows=num_rows, batch_rows=train.batch_rows, num_epochs=train.num_epochs, seed=seed)
