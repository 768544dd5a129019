"""Settings of the arms and of the optimiser."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from drsft.config.base import Frozen, fingerprint
from drsft.config.objectives import Dft, Guards, Objective

__all__ = ["Arm", "DataView", "GapFilter", "Lora", "TrackerName", "Train"]

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


class DataView(StrEnum):
    """Which text of each problem's record an arm trains on. All arms of a run share its samples.

    HINTED is the text that `method: hinted` without teachers would keep. Records made with `method: guided`
    and `hinted_beside: true` contain it, too.
    """

    EXPERT = "expert"  # always the demonstration
    SELF_ONLY = "self_only"  # what the target solved alone; other problems are left out
    REWRITTEN = "rewritten"  # the text that the cascade kept
    HINTED = "hinted"  # what the target solved alone, else what Hinted Decoding found, else the fallback


class Arm(Frozen):
    """One way to train: a data view and an objective. A run trains and compares all its arms."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_+.-]*$", max_length=40)
    data: DataView = DataView.REWRITTEN
    objective: Objective = Dft()
    guards: Guards = Guards()

    @field_validator("objective", mode="before")
    @classmethod
    def from_kind(cls, given: Any) -> Any:
        """Expands the short form: `objective: sft` becomes `objective: {kind: sft}`."""
        return {"kind": given} if isinstance(given, str) else given


def _arms_of_matrix(data: Any, objectives: Any) -> list[dict[str, Any]]:
    """Returns an arm for every objective on every data view, named as in "expert+sft", not yet validated."""
    arms = []
    for view in data:
        for objective in objectives:
            kind = objective.get("kind", "objective") if isinstance(objective, dict) else objective
            arms.append({"name": f"{view}+{kind}", "data": view, "objective": objective})
    return arms


class GapFilter(Frozen):
    """Leaves texts out of training by their log-probs and φ = log p + entropy; a bound that is null is not
    applied.
    """

    min_logprob: float | None = Field(
        None, le=0, description="lower bound of a text's mean log-prob, nats a token"
    )
    min_phi: float | None = Field(None, description="lower bound of a text's mean φ, nats a token")
    max_abs_phi: float | None = Field(
        None, gt=0, description="upper bound of the absolute value of a text's mean φ, nats a token"
    )

    @model_validator(mode="after")
    def has_a_bound(self) -> "GapFilter":
        if self.min_logprob is None and self.min_phi is None and self.max_abs_phi is None:
            raise ValueError("set min_logprob, min_phi or max_abs_phi, or leave the filter out")
        return self


class Lora(Frozen):
    """Adapters instead of whole weights (arXiv 2106.09685): W + alpha / rank · B A."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = Field((), description="ends of layer names; empty: every linear layer")


class Train(Frozen):
    arms: tuple[Arm, ...] = Field(
        (Arm(name="dr+dft"),),
        description="or {data: […], objectives: […]}: each objective on each data; []: train nothing",
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    filter: GapFilter | None = Field(None, description="leaves texts out by their gap; null: none")
    seq_len: int = Field(2048, ge=16, description="tokens that a row may have; longer texts are left out")
    thoughts: Literal["keep", "mask"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "keep",
        description="weight of the loss on thoughts and their markers, 0 to 1; mask is 0, keep is 1",
    )
    packing: bool = Field(True, description="pack several texts into a row; else each is a row of its own")
    batch_rows: int = Field(64, ge=1, description="rows of one step, over all workers")
    micro_batch_rows: int = Field(
        1, ge=1, description="full rows that one forward on one worker may hold; short ones go together"
    )
    num_epochs: int = Field(1, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, description="share of all steps for the warm-up; then cosine to zero"
    )
    weight_decay: float = Field(0.01, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = Field(1.0, gt=0)
    activation_checkpointing: bool = False
    compile: bool = Field(False, description="compile each block with torch.compile (docs/training.md)")
    lora: Lora | None = Field(None, description="{} trains adapters with the defaults; null the whole model")
    checkpoint_every_steps: int = Field(100, ge=1)
    num_checkpoints: int = Field(2, ge=1, description="how many checkpoints are kept, besides the best")
    validation_share: float = Field(
        0, ge=0, le=0.5, description="share of the problems that is held out and scored with every checkpoint"
    )
    export: Literal["last", "best"] = Field(
        "last", description="last: the last step; best: the best checkpoint by validation"
    )
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    initial_model: str | None = Field(
        None, description="the model that training starts from, if not the target that rewrote"
    )

    @field_validator("thoughts")
    @classmethod
    def has_one_spelling(cls, given: str | float) -> str | float:
        """Replaces the weights 0 and 1 of `thoughts` by "mask" and "keep", so that equal settings have equal
        fingerprints.
        """
        return {0.0: "mask", 1.0: "keep"}.get(given, given) if isinstance(given, float) else given

    @property
    def thought_weight(self) -> float:
        """The weight of a thought's tokens in the loss, 0 to 1."""
        words = {"mask": 0.0, "keep": 1.0}
        return words[self.thoughts] if isinstance(self.thoughts, str) else self.thoughts

    @field_validator("arms", mode="before")
    @classmethod
    def from_matrix(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.keys() != {"data", "objectives"} or not all(isinstance(v, list) for v in given.values()):
            raise ValueError(
                "expected a list of arms, or {data: […], objectives: […]} for each objective on each view"
            )
        return _arms_of_matrix(**given)

    @field_validator("arms")
    @classmethod
    def names_differ(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        names = [arm.name for arm in arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arm names must differ, got {', '.join(names)}")
        taken = [name for name in names if name == "base" or name.startswith("packed-")]
        if taken:
            raise ValueError(
                f"arm name {taken[0]!r} is reserved: "
                "base is the untrained model, packed-… are files of packed rows; choose another"
            )
        return arms

    @field_validator("seeds")
    @classmethod
    def seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"seeds must differ, got {', '.join(map(str, seeds))}: equal ones train equal models"
            )
        return seeds

    @model_validator(mode="after")
    def best_can_be_told(self) -> "Train":
        if self.export == "best" and not self.validation_share:
            raise ValueError("export: best needs a validation_share above 0, to find the best checkpoint")
        return self

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings, without keys of later versions that still have their default value.

        So adding a key does not change the fingerprint of older trainings.
        """
        fields: dict[str, Any] = serialised(self)
        if fields.get("thoughts") == "keep":
            del fields["thoughts"]
        if not fields.get("compile", True):
            del fields["compile"]
        return fields

    def arm_fingerprint(self, arm: Arm) -> str:
        """Returns a hash of everything that a training of the arm depends on, except its seed."""
        others = self.model_dump(mode="json", exclude={"arms", "seeds", "num_checkpoints", "trackers"})
        settings = [arm.model_dump(mode="json", exclude={"name"}), others]
        return fingerprint(settings, num_digits=8)

    @property
    def packing_fingerprint(self) -> str:
        """A hash of everything that the packed rows of a data view depend on."""
        covered = {"seq_len", "packing", "validation_share", "initial_model", "filter", "thoughts"}
        settings = self.model_dump(mode="json", include=covered)
        return fingerprint(settings, num_digits=8)
