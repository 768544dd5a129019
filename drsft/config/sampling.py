"""Settings that every sampling phase of the cascade has."""

from pydantic import Field, model_validator

from drsft.config.base import Frozen

__all__ = ["SamplingPhase"]


class SamplingPhase(Frozen):
    """Settings of one phase of the cascade; `num_samples: 0` leaves the phase out."""

    num_samples: int = Field(10, ge=0, description="the most samples of a problem")
    wave_size: int = Field(
        5, ge=1, description="samples requested together; the next ones only if too few were accepted"
    )
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=1, description="of a completion")

    @model_validator(mode="after")
    def greedy_is_one_sample(self) -> "SamplingPhase":
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError("temperature 0 draws the same sample every time; set num_samples: 1, too")
        return self
