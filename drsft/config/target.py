"""The model being trained, its prompts and its engine."""

from typing import Literal

from pydantic import Field, model_validator

from drsft.config.base import Frozen

__all__ = ["Engine", "Prompts", "Target"]


class Prompts(Frozen):
    """User turns; {question} and {demonstration} are filled in as plain text, all else stands as written."""

    system: str | None = None
    plain: str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
    guided: str = (
        "{question}\n\nA worked solution to this problem is given below. Work towards an understanding of "
        "your own first and lean on it only where you are stuck. Then solve the problem step by step in your "
        "own words, without copying or mentioning it, and put your final answer within \\boxed{}."
        "\n\n{demonstration}"
    )
    answered: str = (
        "{question}\n\nThe correct final answer is {demonstration}. Solve the problem step by step so that "
        "your own reasoning leads there, without saying that you were told the answer, and put your final "
        "answer within \\boxed{}."
    )
    rephrased: str = (
        "{question}\n\nA solution to this problem is given below. Write it anew in your own words, step by "
        "step, with the same final answer within \\boxed{}, and do not speak of the given one."
        "\n\n{demonstration}"
    )

    @model_validator(mode="after")
    def has_placeholders(self) -> "Prompts":
        if "{question}" not in self.plain:
            raise ValueError("plain must contain {question}")
        for name in ("guided", "answered", "rephrased"):
            template = getattr(self, name)
            if "{question}" not in template or "{demonstration}" not in template:
                raise ValueError(f"{name} must contain {{question}} and {{demonstration}}")
        return self


class Engine(Frozen):
    """How vLLM is started."""

    max_num_seqs: int = Field(128, ge=1, description="sequences decoded at once")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    kv_cache_mib: int | None = Field(None, ge=16, description="needed on a CPU; on a GPU leave it out")
    enforce_eager: bool = False
    tensor_parallel_size: int = Field(1, ge=1)


class Target(Frozen):
    """The model being trained."""

    model: str = Field(description="a folder, a hub name, s3://…, or `embedded`")
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: int = Field(4096, ge=16, description="prompt and completion together, tokens")
    prompts: Prompts = Prompts()
    engine: Engine = Engine()
