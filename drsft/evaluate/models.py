"""Which models a run compares: the untrained target and every export of training."""

from dataclasses import dataclass

from drsft.config import RunConfig

__all__ = ["BASE", "EvaluatedModel", "evaluated_models"]

BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """`export_key` is where training put the model; None for the target as it was."""

    name: str  # also the folder of its samples
    arm: str
    seed: int | None
    export_key: str | None


def evaluated_models(config: RunConfig) -> list[EvaluatedModel]:
    base = EvaluatedModel(name=BASE, arm=BASE, seed=None, export_key=None)
    return [base] + [
        EvaluatedModel(
            name=f"{arm.name}/seed-{seed}",
            arm=arm.name,
            seed=seed,
            export_key=f"train/{arm.name}/seed-{seed}/export",
        )
        for arm in config.train.arms
        for seed in config.train.seeds
    ]
