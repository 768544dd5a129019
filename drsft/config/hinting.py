"""Settings of Hinted Decoding: how two contexts are mixed, and how the hinted one is made (arXiv 2602.12222).

Defaults are those of the authors' demonstration unless a description says otherwise.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from drsft.config.base import Frozen
from drsft.config.sampling import SamplingPhase

__all__ = [
    "Analysis",
    "Constant",
    "Hinted",
    "Linear",
    "LoopGuard",
    "Mixing",
    "Piecewise",
    "Schedule",
    "Sigmoid",
]

SYSTEM = """\
You are shown a question together with a correct answer to it. Work in two parts.

Part one stands under the heading "# Analyze". Go through the answer line by line: what each line uses, why
it holds, and how one could have come upon it without having seen the answer.

Part two stands under the heading "# CoT". Derive the result in full, from the question alone, in exactly the
words in which you think by yourself. Nothing in this part may show that an answer was in front of you. End
it with the result in \\boxed{}.

An example. Question: what is the sum of the numbers from 1 to 10? Answer: 55, by 10*11/2.

# Analyze
The answer multiplies 10 by 11 and halves the product. That works because the numbers pair up to equal sums.

# CoT
I pair the numbers from both ends: 1 and 10, 2 and 9, and so on. Each pair gives 11, and there are 5 pairs.
So the sum is 5 * 11 = 55. \\boxed{55}"""
PROMPT = "# Question:\n{question}\n\n# Answer:\n{demonstration}\n\n# CoT:\n"


class Linear(Frozen):
    """Linear schedule: λ = clamp(beta · H, 0, 1).

    λ is the weight of the plain context; H is the hinted context's entropy divided by ln(vocabulary size).
    """

    kind: Literal["linear"] = "linear"
    beta: float = Field(3.0, ge=0, description="0 follows the hinted context alone")


class Sigmoid(Frozen):
    """Sigmoid schedule: λ = σ(beta · (H - centre)), with λ and H as in `Linear`."""

    kind: Literal["sigmoid"] = "sigmoid"
    beta: float = 10.0
    centre: float = 0.5


class Piecewise(Frozen):
    """Piecewise linear schedule: λ = clamp((H - low) / (high - low), 0, 1), with λ and H as in `Linear`."""

    kind: Literal["piecewise"] = "piecewise"
    low: float = 0.3
    high: float = 0.7

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> "Piecewise":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Constant(Frozen):
    """Constant schedule, one λ for every token: 0 is the hinted context alone, 1 the plain one."""

    kind: Literal["constant"] = "constant"
    weight: float = Field(ge=0, le=1)


Schedule = Annotated[Linear | Sigmoid | Piecewise | Constant, Field(discriminator="kind")]


class LoopGuard(Frozen):
    """Settings of the guard that stops a completion which repeats itself."""

    every_tokens: int = Field(100, ge=1, description="tokens between two checks")
    ngram_tokens: int = Field(30, ge=1)
    repeats: int = Field(
        5, ge=2, description="a loop is this many occurrences of one n-gram, counting overlaps"
    )


class Mixing(Frozen):
    """How the next-token distributions of a problem's plain and hinted contexts are mixed, token by token."""

    schedule: Schedule = Linear()
    order: Literal["top_p_first", "temperature_first"] = Field(
        "top_p_first",
        description="whether top-p applies to the mixture itself, or after temperature as in vLLM",
    )
    hinted_first_token: bool = Field(True, description="the hinted context alone gives the first token")
    answer_marker: str | None = Field(
        "\\boxed{",
        min_length=1,
        description="once the text contains it, the plain context decides alone; null: never",
    )
    loop_guard: LoopGuard | None = LoopGuard()


class Analysis(Frozen):
    """Settings of the analysis that comes before Hinted Decoding (the paper's stage 0).

    The target is shown the expert's solution and explains it. In the hinted context, the assistant's turn
    then begins with the explanation up to the marker.
    """

    marker: str = Field(
        "# CoT",
        min_length=1,
        description="ends the analysis; without it in the text there is no hinted decoding",
    )
    max_tokens: int = Field(2048, ge=1)


class Hinted(SamplingPhase):
    """Settings of Hinted Decoding, which samples each token from a mixture of two next-token distributions:
    that of the plain context and that of a hinted one.
    """

    num_samples: int = Field(1, ge=0, description="the most samples of a problem")
    wave_size: int = Field(1, ge=1, description="samples requested together")
    temperature: float = Field(0.3, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    mixing: Mixing = Mixing()
    analysis: Analysis | None = Field(
        Analysis(), description="null: no analysis, the hinted prompt is used as it is"
    )
    system: str | None = Field(SYSTEM, description="system turn of the hinted context")
    prompt: str = Field(PROMPT, description="its user turn; {question} and {demonstration} are filled in")
    engine: Literal["vllm", "torch"] = Field("vllm", description="torch loads a second copy of the weights")

    @model_validator(mode="after")
    def has_placeholders(self) -> "Hinted":
        if "{question}" not in self.prompt or "{demonstration}" not in self.prompt:
            raise ValueError("the prompt must contain {question} and {demonstration}")
        return self
