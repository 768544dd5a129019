"""Settings of the cascade, the phases in which a problem is rewritten: what is sampled, accepted and kept."""

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from drsft.config.base import Frozen, merged
from drsft.config.hinting import Hinted
from drsft.config.sampling import SamplingPhase
from drsft.config.verification import Verification

__all__ = ["Grounding", "Guided", "Hint", "Rejections", "Rewrite", "Selection", "Teacher"]

Hint = Literal["demonstration", "answer", "rephrase"]
Selection = Literal["random", "first", "shortest", "most_likely", "closest"]


class Guided(SamplingPhase):
    """Settings of guided re-solving, in which the target sees a guide, such as the expert's solution, while
    it solves a problem again.
    """

    hint: Hint = Field(
        "demonstration",
        description="the expert's solution, the reference answer alone (STaR), or the expert's solution to "
        "be put into own words (SDFT): target.prompts.guided, answered, rephrased",
    )
    require_steps: bool = Field(False, description="accept only solutions whose readable equations all hold")


class Grounding(Frozen):
    """Further conditions on correct solutions that were sampled with a guide, or written by a teacher."""

    min_answer_logprob: float | None = Field(
        -7.0,
        le=0,
        description="least log-prob (nats, summed) of the answer's tokens where the solution first states "
        "it, under the target without the guide; null: not checked",
    )
    derives_answer: bool = Field(
        True,
        description="a calculation in the solution must give the answer, and all readable equations must "
        "hold; mathematics only, if the answer is a plain number",
    )
    min_equations: int = Field(
        1,
        ge=0,
        description="least number of readable equations, all of which must hold, if derives_answer does not "
        "apply; mathematics only; 0: not checked",
    )
    narrows_gap: bool = Field(
        True,
        description="on average its tokens must be at least as likely under the target as the expert's",
    )


class Teacher(Frozen):
    """A model behind an OpenAI-compatible endpoint; its solutions are verified as the target's are."""

    model: str
    base_url: str = Field(pattern=r"^https?://", description="such as http://host:8000/v1")
    api_key_env: str | None = Field(None, description="the environment variable that holds the key")
    weight: float = Field(1.0, gt=0, description="relative frequency with which this teacher is asked")
    use: Literal["guide", "direct"] = Field(
        "guide", description="guide: show the solution to the target; direct: train on it unchanged"
    )
    num_samples: int = Field(1, ge=1)
    temperature: float = Field(0.7, ge=0)
    max_tokens: int = Field(2048, ge=1)
    timeout_s: float = Field(120, gt=0, description="time limit of one request")
    max_retries: int = Field(
        5, ge=0, description="retries of a request, with growing pauses (Retry-After is obeyed)"
    )


class Rejections(Frozen):
    """Reasons to reject a sample although its answer is right."""

    loop_ngram_tokens: int = Field(20, ge=2)
    loop_repeats: int = Field(
        4, ge=0, description="a loop is this many occurrences of one n-gram without overlap; 0 accepts loops"
    )
    several_boxes: bool = Field(True, description="reject boxed answers that contradict each other")
    leakage: bool = Field(True, description="reject guided solutions that mention their guide")
    leakage_in_thoughts: bool = Field(
        True,
        description="reject guided solutions whose thought mentions their guide",
    )

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings, without keys of later versions that still have their default value.

        So adding a key does not change the fingerprint of older runs.
        """
        fields: dict[str, Any] = serialised(self)
        if fields.get("leakage_in_thoughts", False):
            del fields["leakage_in_thoughts"]
        return fields


PRESETS: dict[str, dict[str, Any]] = {
    # All of these papers check only the answer, so grounding is off.
    # arXiv 2509.15157; numbers of samples from its public re-implementations
    "mind_the_gap": {"grounding": None},
    # its control: only texts of the target alone
    "self_only": {"guided": {"num_samples": 0}, "fallback": "drop"},
    # rejection-sampling fine-tuning, arXiv 2308.01825: every different correct sample
    "rft": {
        "self_align": {"num_samples": 10, "wave_size": 10, "temperature": 0.7},
        "guided": {"num_samples": 0},
        "num_accepted": 10,
        "fallback": "drop",
    },
    # arXiv 2203.14465: one greedy try, then rationalise with the answer as hint
    "star": {
        "self_align": {"num_samples": 1, "wave_size": 1, "temperature": 0.0},
        "guided": {"num_samples": 1, "wave_size": 1, "temperature": 0.0, "hint": "answer"},
        "grounding": None,
        "fallback": "drop",
    },
    # self-distillation, arXiv 2402.13669: the demonstration in the target's words where the answer stays
    "sdft": {
        "self_align": {"num_samples": 0},
        "guided": {"num_samples": 1, "wave_size": 1, "hint": "rephrase"},
        "grounding": None,
    },
    # arXiv 2602.12222: what is not solved alone is decoded beside a hinted context
    "hinted_decoding": {"method": "hinted", "grounding": None},
}


class Rewrite(Frozen):
    """Settings of rewriting: what is sampled for a problem, what is accepted, and what is kept."""

    preset: Literal["mind_the_gap", "self_only", "rft", "star", "sdft", "hinted_decoding"] | None = Field(
        None, description="a published setting; keys written beside it override it"
    )
    self_align: SamplingPhase = SamplingPhase()
    method: Literal["guided", "hinted", "guided_then_hinted"] = Field(
        "guided",
        description="how unsolved problems are tried again: guided re-solving, Hinted Decoding, or both",
    )
    guided: Guided = Guided()
    hinted: Hinted = Hinted()
    hinted_beside: bool = Field(
        False,
        description="Hinted Decoding beside the method, only for arms with data: hinted",
    )
    teachers: tuple[Teacher, ...] = ()
    fallback: Literal["expert", "drop"] = Field("expert", description="what unsolved problems become")
    num_accepted: int = Field(
        1, ge=1, description="how many different accepted solutions to keep for a problem"
    )
    selection: Selection = Field(
        "random", description="which accepted ones are kept; closest: smallest |mean phi| under the target"
    )
    stop_beaten: bool = Field(
        False,  # records keep every attempt, so that shares of right samples are unbiased
        description="stop samples that can no longer be kept (random, first): fewer tokens, fewer attempts",
    )
    refusals: Rejections = Rejections()
    grounding: Grounding | None = Field(
        Grounding(), description="guided solutions must lead to their answer; null accepts any right one"
    )
    tokens_per_problem: int | None = Field(
        None, ge=1, description="token limit of a problem: once it is reached, no more samples are requested"
    )
    tokens_per_run: int | None = Field(
        None, ge=1, description="token limit of each round, divided among the shards by their size"
    )
    verification: Verification = Verification()

    @property
    def is_guided(self) -> bool:
        return self.method != "hinted"

    @property
    def is_hinted(self) -> bool:
        """Whether Hinted Decoding is used, as the method or in addition to it (`hinted_beside`)."""
        return self.method != "guided" or self.hinted_beside

    @model_validator(mode="before")
    @classmethod
    def from_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        return merged(PRESETS[name], given) if isinstance(name, str) and name in PRESETS else given

    @model_validator(mode="after")
    def beside_is_not_twice(self) -> "Rewrite":
        if self.hinted_beside and self.method != "guided":
            raise ValueError(
                f"hinted_beside: true is for method: guided only; {self.method} uses Hinted Decoding itself: "
                "leave hinted_beside out"
            )
        return self

    @model_validator(mode="after")
    def shown_teachers_are_of_use(self) -> "Rewrite":
        if self.guided.num_samples == 0 and any(teacher.use == "guide" for teacher in self.teachers):
            raise ValueError(
                "a teacher with use: guide needs the guided phase, which guided.num_samples: 0 switches off; "
                "set use: direct, or let the guided phase draw samples"
            )
        return self

    @field_validator("teachers")
    @classmethod
    def teachers_differ(cls, teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        if len({(teacher.base_url, teacher.model) for teacher in teachers}) < len(teachers):
            raise ValueError(
                "two teachers have the same base_url and model; give one of them a higher weight"
            )
        return teachers
