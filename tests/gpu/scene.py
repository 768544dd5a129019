"""What every check on a new machine is given, and what it tells: a model, a device, rows of one table."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from drsft.config import EMBEDDED_PROMPTS, Engine, Problems, Prompts, Target
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, load_prompter
from drsft.records import Problem

__all__ = ["Row", "Scene", "relative_error", "within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    check: str
    what: str
    found: str
    limit: str = ""
    is_kept: bool | None = None  # where there is a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`toy` is small enough for a CPU, and samples in fp32, where two engines agree to the last digits."""

    model: str
    is_toy: bool
    folder: Path
    device: torch.device = field(
        default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )

    @property
    def target(self) -> Target:
        """The model as rollouts use it. On a CPU nothing is compiled, which takes longer than the rest."""
        toy = Engine(max_num_seqs=32, kv_cache_mib=128, enforce_eager=True)
        return Target(
            model=self.model,
            dtype="float32" if self.is_toy else "bfloat16",
            max_model_len=512 if self.is_toy else 2048,
            prompts=EMBEDDED_PROMPTS if self.model == "embedded" else Prompts(),
            engine=toy if self.is_toy else Engine(),
        )

    @property
    def prompter(self) -> Prompter:
        return load_prompter(self.model, self.target.prompts)

    def problems(self, num: int) -> list[Problem]:
        found = read_problems(Problems(path="embedded:train"), Intake())
        return [problem for _, problem in zip(range(num), found, strict=False)]


def within(check: str, what: str, error: float, limit: float) -> Row:
    return Row(check=check, what=what, found=f"{error:.1e}", limit=f"{limit:.0e}", is_kept=error <= limit)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()
