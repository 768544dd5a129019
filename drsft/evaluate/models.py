"""Which models a run compares: the untrained target and every export of training."""

from dataclasses import dataclass

from drsft.config import RunConfig
from drsft.run import layout

__all__ = ["EvaluatedModel", "evaluated_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """`folder` is that of its training; None for the target as it was."""

    name: str  # also the folder of its samples: "base", or as in "dr+dft-1a2b3c4d/seed-0"
    arm: str
    seed: int | None
    folder: layout.TrainingFolder | None

    @property
    def shown_name(self) -> str:
        """As people say it: "base", "dr+dft/seed-0"."""
        return self.arm if self.seed is None else f"{self.arm}/seed-{self.seed}"


def evaluated_models(config: RunConfig) -> list[EvaluatedModel]:
    base = EvaluatedModel(name=layout.BASE, arm=layout.BASE, seed=None, folder=None)
    models = [base] if config.evaluate.base else []
    for arm in config.train.arms:
        for seed in config.train.seeds:
            folder = layout.training(config.train, arm, seed)
            models.append(EvaluatedModel(name=folder.model_name, arm=arm.name, seed=seed, folder=folder))
    return models
