"""Reads a file of worked cases: logits and labels, and what each objective must compute from them.

A case has logits (B, T, V) already aligned with labels (B, T), a mask, sometimes the log-probs and logits of
a reference and of an older policy, and for every method its hyperparameters, weights, per-token losses, loss
and gradient at the logits. Everything is read in float64.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from drsft.config.objectives import Idft, Objective, objectives_by_kind
from drsft.errors import InputError

__all__ = ["Case", "Method", "UnknownMethodError", "cases_in", "read_fixtures"]

# The file's names of objectives and hyperparameters, where they differ from drsft's.
NAMES = {"iw_sft": "iw_sft_seq", "eaft": "eaft_topk", "p_power": "neg_p_power", "luffy": "luffy_shaping"}
HYPERPARAMETERS = {
    "iw_sft": {"temp": "temperature", "clip_max": "max_weight"},
    "iw_sft_token": {"clip_min": "min_weight", "clip_max": "max_weight"},
    "idft": {"prob_eps": "min_p", "entropy_eps": "entropy_epsilon"},
    "idft_phi_clip": {"B": "max_phi"},
    "eaft": {"k": "top_k"},
    "talr": {"floor": "min_weight"},
}
METHODS = {NAMES.get(kind, kind): (kind, objective) for kind, objective in objectives_by_kind().items()}


class UnknownMethodError(InputError):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What a case expects of one objective; `expected` is its entry in the file, with numbers as lists."""

    name: str
    objective: Objective
    idft_share: float  # λ of IDFT's transition
    expected: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One worked case. Its tensors with axis N have only the tokens that the mask selects, row after row."""

    name: str
    tree: Mapping[str, Any]
    mask_BT: Tensor
    logits_NV: Tensor
    labels_N: Tensor
    document_ids_N: Tensor

    def tokens(self, values: Any) -> Tensor:
        """Returns the values of the N tokens that the mask selects, from nested lists (B, T) or (B, T, V)."""
        return _tensor(values)[self.mask_BT]

    def optional(self, name: str) -> Tensor | None:
        return self.tokens(self.tree[name]) if name in self.tree else None

    def method(self, name: str) -> Method:
        """Returns what the case expects of a method, which is the file's name for an objective.

        Raises UnknownMethodError if drsft has no such objective, InputError for a wrong hyperparameter.
        """
        where = f"case {self.name!r}, method {name!r}"
        known = METHODS.get(name.split("@")[0])
        if known is None:
            raise UnknownMethodError(f"{where}: no such objective; known are {', '.join(METHODS)}")
        kind, objective_class = known
        renamed = HYPERPARAMETERS.get(kind, {})
        expected = self.tree["methods"][name]
        given = {key: value for key, value in expected.get("hyperparameters", {}).items() if key != "note"}
        share = float(given.pop("lambda_t", 1.0)) if objective_class is Idft else 1.0
        if objective_class is Idft:  # λ is the progress through a transition that takes the whole training
            given["transition_ratio"] = 1.0
        try:
            objective = objective_class.model_validate({renamed.get(key, key): v for key, v in given.items()})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{where}: hyperparameter {first['loc'][0]!r}: {first['msg']}") from None
        return Method(name=name, objective=objective, idft_share=share, expected=expected)


def read_fixtures(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.setdefault("cases", []), list):
        raise InputError(f"{path}: not a file of fixtures: it must be an object with a list of cases")
    return tree


def cases_in(tree: Mapping[str, Any], path: Path) -> Iterator[Case]:
    """Yields the cases in `tree`, the content of the fixtures file at `path`; at last the one of extreme
    logits if there is one.

    Raises InputError for a case that cannot be read.
    """
    for case in [*tree["cases"], *([tree["extreme"]] if "extreme" in tree else [])]:
        name = str(case.get("name", "unnamed")) if isinstance(case, dict) else "unnamed"
        try:
            yield _case(name, case)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: case {name!r} cannot be read: {error!r}") from error


def _case(name: str, tree: Mapping[str, Any]) -> Case:
    mask_BT = _tensor(tree["mask"]) > 0
    rows_N = torch.arange(len(mask_BT))[:, None].expand_as(mask_BT)[mask_BT]
    return Case(
        name=name,
        tree=tree,
        mask_BT=mask_BT,
        logits_NV=_tensor(tree["logits"])[mask_BT],
        labels_N=_tensor(tree["labels"])[mask_BT].long(),
        document_ids_N=(rows_N.diff(prepend=rows_N[:1]) != 0).cumsum(
            0
        ),  # rows without a token count for none
    )


def _tensor(values: Any) -> Tensor:
    """Returns the values in float64.

    A logit of −∞ becomes a finite one with probability 0, since the heads of models are finite.
    """
    return torch.tensor(values, dtype=torch.float64).clamp(min=-1e30)
