"""The cascade: what is sampled, what is accepted, what is kept."""

from typing import Literal

from pydantic import Field, field_validator

from drsft.config.base import Frozen

__all__ = ["Guided", "Refusals", "Rewrite", "SamplingStage", "Selection", "Teacher", "Verification"]

Selection = Literal["random", "first", "shortest", "most_likely", "closest"]


class SamplingStage(Frozen):
    """One stage of the cascade; `num_samples: 0` leaves the stage out."""

    num_samples: int = Field(10, ge=0, description="at most so many samples for a problem")
    wave_size: int = Field(5, ge=1, description="samples drawn at once; another wave only if too few passed")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=1, description="of a completion")


class Guided(SamplingStage):
    """Solving again with a guide in view."""

    hint: Literal["demonstration", "answer"] = Field(
        "demonstration", description="the expert's solution, or the reference answer alone (STaR)"
    )
    require_steps: bool = Field(False, description="accept only solutions whose equations hold")


class Teacher(Frozen):
    """A model behind an OpenAI-compatible endpoint; its solutions are verified like everything else."""

    model: str
    base_url: str = Field(pattern=r"^https?://", description="such as http://host:8000/v1")
    api_key_env: str | None = Field(None, description="the environment variable that holds the key")
    weight: float = Field(1.0, gt=0, description="how often this one of several teachers is asked")
    use: Literal["guide", "direct"] = Field("guide", description="show it to the target, or keep it as it is")
    num_samples: int = Field(1, ge=1)
    temperature: float = Field(0.7, ge=0)
    max_tokens: int = Field(2048, ge=1)
    timeout_s: float = Field(120, gt=0)


class Refusals(Frozen):
    """Samples that are not kept although their answer is right."""

    loop_ngram_tokens: int = Field(20, ge=2)
    loop_repeats: int = Field(4, ge=0, description="of one n-gram, without overlap; 0 accepts loops")
    several_boxes: bool = Field(True, description="boxed answers that contradict each other")
    leakage: bool = Field(True, description="guided solutions that mention their guide")


class Verification(Frozen):
    timeout_s: float = Field(5.0, gt=0, description="for one verdict; past it the verdict is unjudged")
    memory_limit_mib: int = Field(2048, ge=64, description="of one worker process")


class Rewrite(Frozen):
    self_align: SamplingStage = SamplingStage()
    guided: Guided = Guided()
    teachers: tuple[Teacher, ...] = ()
    fallback: Literal["expert", "drop"] = Field("expert", description="what becomes of the unsolved")
    num_accepted: int = Field(1, ge=1, description="different accepted solutions wanted for a problem")
    selection: Selection = Field("random", description="which accepted ones are kept")
    refusals: Refusals = Refusals()
    tokens_per_problem: int | None = Field(
        None, ge=1, description="no further wave past so many sampled tokens"
    )
    tokens_per_run: int | None = Field(None, ge=1, description="shared out among the shards by their size")
    verification: Verification = Verification()

    @field_validator("teachers")
    @classmethod
    def teachers_differ(cls, teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        if len({(teacher.base_url, teacher.model) for teacher in teachers}) < len(teachers):
            raise ValueError(
                "two teachers have the same base_url and model; give one of them a higher weight"
            )
        return teachers
