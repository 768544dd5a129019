"""The configuration: one frozen tree that refuses unknown keys, and its parts."""

from drsft.config.data import Columns, Decontaminate, NearDuplicates, Problems
from drsft.config.evaluation import Benchmark, Evaluate
from drsft.config.rewriting import Guided, Refusals, Rewrite, SamplingStage, Selection, Teacher, Verification
from drsft.config.run import Resources, RunConfig
from drsft.config.target import Engine, Prompts, Target
from drsft.config.training import Arm, Dft, Objective, Sft, Train

__all__ = [
    "Arm",
    "Benchmark",
    "Columns",
    "Decontaminate",
    "Dft",
    "Engine",
    "Evaluate",
    "Guided",
    "NearDuplicates",
    "Objective",
    "Problems",
    "Prompts",
    "Refusals",
    "Resources",
    "Rewrite",
    "RunConfig",
    "SamplingStage",
    "Selection",
    "Sft",
    "Target",
    "Teacher",
    "Train",
    "Verification",
]
