"""Which models a run compares: the untrained target and every export of training."""

from dataclasses import dataclass

from drsft.config import RunConfig

__all__ = ["BASE", "EvaluatedModel", "evaluated_models"]

BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """`export_key` is where training put the model; None for the target as it was."""

    name: str  # also the folder of its samples: "base", or as in "dr+dft-1a2b3c4d/seed-0"
    arm: str
    seed: int | None
    export_key: str | None

    @property
    def shown_name(self) -> str:
        """As people say it: "base", "dr+dft/seed-0"."""
        return self.arm if self.seed is None else f"{self.arm}/seed-{self.seed}"


def evaluated_models(config: RunConfig) -> list[EvaluatedModel]:
    base = EvaluatedModel(name=BASE, arm=BASE, seed=None, export_key=None)
    models = [base] if config.evaluate.base else []
    for arm in config.train.arms:
        for seed in config.train.seeds:
            prefix = config.train.job_prefix(arm, seed)
            name = prefix.removeprefix("train/")
            models.append(EvaluatedModel(name=name, arm=arm.name, seed=seed, export_key=f"{prefix}/export"))
    return models
