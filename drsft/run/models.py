"""Defines the models that a run compares, and the result of a finished training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from drsft.config import RunConfig
from drsft.run import layout

__all__ = ["EvaluatedModel", "FinishedTraining", "ProbabilityCounts", "evaluated_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """The untrained target or a trained model. `folder` is that of its training; None for the target."""

    name: str  # also the folder of its samples: "base", or as in "dr+dft-1a2b3c4d/seed-0"
    arm: str
    seed: int | None
    folder: layout.TrainingFolder | None

    @property
    def shown_name(self) -> str:
        """The name shown to users: "base", "dr+dft/seed-0"."""
        return self.arm if self.seed is None else f"{self.arm}/seed-{self.seed}"


def evaluated_models(config: RunConfig) -> list[EvaluatedModel]:
    """Returns all models that the configuration compares, trained or not yet.

    The untrained target comes first, unless `evaluate.base` is false, then a model for each arm and seed.
    """
    base = EvaluatedModel(name=layout.BASE, arm=layout.BASE, seed=None, folder=None)
    models = [base] if config.evaluate.base else []
    for arm in config.train.arms:
        for seed in config.train.seeds:
            folder = layout.training(config.train, arm, seed)
            models.append(EvaluatedModel(name=folder.model_name, arm=arm.name, seed=seed, folder=folder))
    return models


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTraining:
    """The result of a finished training; the training's commit (done.json) has the same field names."""

    steps: int = 0
    loss_tokens: int
    wall_s: float  # of the steps that count, each once, without the export
    num_workers: int
    compile_s: float = 0  # of this, since the last start; of the first worker
    ended_at: float | None = None  # seconds since 1970; None in the first versions
    final: Mapping[str, float] = field(default_factory=dict)  # the last step's metrics
    troubles: tuple[str, ...] = ()  # what its meters warn of


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityCounts:
    """How many of a training's tokens have a probability in each bin, before and after the training.

    `log10_edges` are the decimal logarithms of the bins' edges. None: not counted yet.
    """

    log10_edges: tuple[float, ...]
    before: tuple[int, ...] | None = None
    after: tuple[int, ...] | None = None
