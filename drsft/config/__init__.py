"""The configuration: one frozen tree that refuses unknown keys, and its parts."""

from drsft.config.data import Columns, Decontaminate, NearDuplicates, Problems, Reading
from drsft.config.evaluation import Benchmark, Evaluate
from drsft.config.hinting import (
    Analysis,
    Constant,
    Hinted,
    Linear,
    LoopGuard,
    Mixing,
    Piecewise,
    Schedule,
    Sigmoid,
)
from drsft.config.objectives import Dft, Guards, Objective, Sft
from drsft.config.reporting import Report
from drsft.config.rewriting import Grounding, Guided, Hint, Rejections, Rewrite, Selection, Teacher
from drsft.config.rounds import Rounds
from drsft.config.run import Resources, RunConfig, WorkerShare
from drsft.config.sampling import SamplingPhase
from drsft.config.target import EMBEDDED_PROMPTS, Engine, Prompts, Target, ThoughtMarkers
from drsft.config.tracing import Traces
from drsft.config.training import Arm, DataView, GapFilter, Lora, TrackerName, Train
from drsft.config.verification import Verification

__all__ = [
    "EMBEDDED_PROMPTS",
    "Analysis",
    "Arm",
    "Benchmark",
    "Columns",
    "Constant",
    "DataView",
    "Decontaminate",
    "Dft",
    "Engine",
    "Evaluate",
    "GapFilter",
    "Grounding",
    "Guards",
    "Guided",
    "Hint",
    "Hinted",
    "Linear",
    "LoopGuard",
    "Lora",
    "Mixing",
    "NearDuplicates",
    "Objective",
    "Piecewise",
    "Problems",
    "Prompts",
    "Reading",
    "Rejections",
    "Report",
    "Resources",
    "Rewrite",
    "Rounds",
    "RunConfig",
    "SamplingPhase",
    "Schedule",
    "Selection",
    "Sft",
    "Sigmoid",
    "Target",
    "Teacher",
    "ThoughtMarkers",
    "Traces",
    "TrackerName",
    "Train",
    "Verification",
    "WorkerShare",
]
