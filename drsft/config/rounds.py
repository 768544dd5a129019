"""Settings of further rounds, which rewrite again with the newly trained model as the target."""

from typing import Any, Literal

from pydantic import Field, model_validator

from drsft.config.base import Frozen

__all__ = ["Rounds"]


class Rounds(Frozen):
    """How often a run rewrites and trains; `rounds: 3` is short for `rounds: {count: 3}`.

    In a later round the target, which does the rewriting, is a model that the previous round has trained.

    These settings do not change the run's name, so rounds can be added to a run later.
    """

    count: int = Field(1, ge=1, description="how many times to rewrite and train")
    arm: str | None = Field(
        None,
        description="arm whose first seed is the next round's target; default: the last on rewritten data",
    )
    start_from: Literal["base", "previous"] = Field(
        "base", description="what a later round trains: the original model, or the one it rewrote with"
    )
    tolerance: float = Field(
        0.05,
        ge=0,
        description="nats per token by which a kept text may grow less likely before it is rewritten again",
    )

    @model_validator(mode="before")
    @classmethod
    def from_count(cls, given: Any) -> Any:
        match given:
            case bool() | str() | float() | list():
                raise ValueError(
                    f"expected the number of rounds, or keys such as count and arm, got {given!r:.40}"
                )
            case int():
                return {"count": given}
            case _:
                return given
