"""drsft: rewrite expert solutions into data the target model could have written, then fine-tune on it.

The public names below are loaded when they are first used, so `import drsft` takes milliseconds and loads
neither torch, Ray nor vLLM. docs/python.md describes them.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drsft.api.objective_loss import objective_loss
    from drsft.api.objective_trainer import objective_trainer
    from drsft.api.record_set import RecordSet, load_records
    from drsft.api.rewriter import Rewriter, rewrite
    from drsft.api.text_gap import gap
    from drsft.api.verdicts import verify
    from drsft.config import Columns, Guards, Objective, Prompts, Rewrite, Target, Verification
    from drsft.errors import DrsftError, UserError
    from drsft.gap.report import GapReport
    from drsft.records import Message, Outcome, Problem, Record, Source, Verdict

__all__ = [
    "Columns",
    "DrsftError",
    "GapReport",
    "Guards",
    "Message",
    "Objective",
    "Outcome",
    "Problem",
    "Prompts",
    "Record",
    "RecordSet",
    "Rewrite",
    "Rewriter",
    "Source",
    "Target",
    "UserError",
    "Verdict",
    "Verification",
    "__version__",
    "gap",
    "load_records",
    "objective_loss",
    "objective_trainer",
    "rewrite",
    "verify",
]

__version__ = "0.1.0"

_MODULES = {
    "drsft.api.objective_loss": ("objective_loss",),
    "drsft.api.objective_trainer": ("objective_trainer",),
    "drsft.api.record_set": ("RecordSet", "load_records"),
    "drsft.api.rewriter": ("Rewriter", "rewrite"),
    "drsft.api.text_gap": ("gap",),
    "drsft.api.verdicts": ("verify",),
    "drsft.config": ("Columns", "Guards", "Objective", "Prompts", "Rewrite", "Target", "Verification"),
    "drsft.errors": ("DrsftError", "UserError"),
    "drsft.gap.report": ("GapReport",),
    "drsft.records": ("Message", "Outcome", "Problem", "Record", "Source", "Verdict"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


class _Package(ModuleType):
    """The package `drsft`, whose public names win over subpackages of the same name.

    `verify`, `rewrite` and `gap` are functions here, and subpackages too. Python would replace the function
    by the subpackage as soon as something imports it. `from drsft.verify.pool import …` does not look here.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_PLACES[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
