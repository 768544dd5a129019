"""Settings that a notebook passes: a section of the configuration, or its keys as a dict."""

from collections.abc import Mapping
from typing import Any, TypeVar

from drsft.config import Arm, Guards, Objective, Target
from drsft.config.base import Frozen
from drsft.config.configfile import settings_of
from drsft.policy.prompts import num_positions

__all__ = ["arm_of", "section_of", "target_of"]

Section = TypeVar("Section", bound=Frozen)


def section_of(schema: type[Section], given: Section | Mapping[str, Any] | None, *, source: str) -> Section:
    """Returns `given` as settings of the class `schema`; None stands for all defaults.

    Raises ConfigError with one line for each wrong key. These lines begin with `source`.
    """
    if isinstance(given, schema):
        return given
    return settings_of(schema, dict(given or {}), source=source)


def target_of(model: str | Target) -> Target:
    """Returns `model` as a Target.

    For a bare model name, `max_model_len` is the default, or what the model supports if that is less.
    """
    if isinstance(model, Target):
        return model
    target = Target(model=model)
    longest = min(target.max_model_len, num_positions(target) or target.max_model_len)
    return target.model_copy(update={"max_model_len": longest})


def arm_of(
    objective: str | Mapping[str, Any] | Objective, guards: Mapping[str, Any] | Guards | None, *, source: str
) -> Arm:
    """Returns an arm with `objective`, which is given as its kind, its keys or its settings, and with
    `guards`.

    Raises ConfigError as `section_of` does.
    """
    keys = dict(objective) if isinstance(objective, Mapping) else objective
    tree = {
        "name": "api",
        "objective": keys,
        "guards": section_of(Guards, guards, source=f"{source}: guards"),
    }
    return section_of(Arm, tree, source=source)
