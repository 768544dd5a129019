"""Settings of how answers are judged."""

from pydantic import Field

from drsft.config.base import Frozen

__all__ = ["JudgingModel", "Verification"]


class JudgingModel(Frozen):
    """A model behind an OpenAI-compatible endpoint that judges problems of kind "judge"."""

    model: str
    url: str = Field(pattern=r"^https?://", description="such as http://host:8000/v1")
    key_variable: str = Field("OPENAI_API_KEY", description="the environment variable that holds the key")
    rubric: str | None = Field(None, description="its system prompt; null: drsft's own")
    max_calls: int = Field(
        10_000, ge=1, description="limit of calls per actor; beyond it verdicts are unjudged"
    )
    timeout_s: float = Field(60.0, gt=0, description="time limit of one request")
    attempts: int = Field(3, ge=1, description="tries for one verdict")


class Verification(Frozen):
    """Settings of the verifier: its limits, its tolerances, and kinds of the user's own."""

    timeout_s: float = Field(
        5.0, gt=0, description="time limit of one verdict; beyond it the verdict is unjudged"
    )
    memory_limit_mib: int = Field(2048, ge=64, description="memory limit of one worker process")
    require_box: bool = Field(False, description="an answer outside \\boxed{} does not count")
    relative_tolerance: float = Field(
        1e-4, ge=0, description="relative tolerance of kind numeric, to the reference"
    )
    absolute_tolerance: float = Field(1e-9, ge=0, description="absolute tolerance of kind numeric")
    judge: JudgingModel | None = Field(None, description="the model that judges problems of kind judge")
    custom: dict[str, str] = Field(
        {},
        description="your own kinds: a name, and package.module:function that every node can import",
    )
