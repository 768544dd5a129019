"""The contract: what goes in, what comes out, and what each error looks like. Unknown fields are refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from drsft.records import Outcome, Source

__all__ = [
    "AttemptSummary",
    "BatchLine",
    "BatchRequest",
    "ErrorBody",
    "Readiness",
    "RecipeOverrides",
    "RewriteRequest",
    "RewriteResult",
    "Timings",
    "TokenCounts",
    "VersionInfo",
]

Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
KINDS = Literal["math", "math+steps", "choice", "numeric", "exact", "code"]

_CONVERSATION: JsonDict = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 3 * 12?"},
        {"role": "assistant", "content": "It is \\boxed{36}."},
        {"role": "user", "content": "And 7 less?"},
        {"role": "assistant", "content": "36 - 7 = 29. The answer is \\boxed{29}."},
    ],
    "reference": "29",
    "seed": 7,
}
_PROBLEM: JsonDict = {
    "problem": "Ann has 3 boxes of 12 pencils and gives 7 away. How many are left?",
    "reference": "29",
    "expert_solution": "3 * 12 = 36 pencils. 36 - 7 = 29. The answer is \\boxed{29}.",
    "seed": 7,
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecipeOverrides(_Strict):
    """What a request may change of the service's recipe, within its limits."""

    self_align_samples: int | None = Field(None, ge=0, description="at most so many unguided samples")
    guided_samples: int | None = Field(None, ge=0, description="at most so many with the guide in view")
    temperature: float | None = Field(None, gt=0, le=2)
    max_tokens: int | None = Field(None, ge=1, description="of a completion")
    fallback: Literal["expert", "drop"] | None = Field(None, description="what becomes of the unsolved")
    hint: Literal["demonstration", "answer"] | None = Field(None, description="what the guided phase sees")


class TextPart(_Strict):
    type: Literal["text"] = "text"
    text: str


class Turn(_Strict):
    """A turn as data sets store it; fields beside these are ignored, as they are in problem files."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart | str]
    reasoning_content: str | None = Field(None, description="a thought apart; read of the last turn alone")
    tool_calls: list[Any] | None = Field(None, max_length=0, description="only texts can be asked")


class RewriteRequest(_Strict):
    """One problem, or a conversation that ends with it: exactly one of `problem` and `messages`.

    Without `expert_solution` there is no guided phase, unless the hint is the answer.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_PROBLEM, _CONVERSATION]})

    problem: Text | None = None
    messages: list[Turn] | None = Field(
        None,
        min_length=1,
        description="a system turn, if any, then user and assistant; a last turn of the assistant is the "
        "demonstration, unless `expert_solution` is given",
    )
    reference: Text = Field(description="the answer that a solution must reach")
    expert_solution: str | None = Field(None, description="the demonstration to be rewritten")
    kind: KINDS = Field("math", description="which verifier judges")
    recipe: RecipeOverrides = RecipeOverrides()
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="fixed: the same request gets the same answer; else drawn"
    )
    phi: bool = Field(False, description="also score the result under the target and the plain prompt")
    deadline_s: float | None = Field(None, ge=1, description="give up after so long; capped by the service")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "RewriteRequest":
        if (self.problem is None) == (self.messages is None):
            raise ValueError("give exactly one of problem and messages")
        return self


class BatchRequest(_Strict):
    """Several problems; the answers come as JSON lines in order of completion."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"problems": [_PROBLEM]}]})

    problems: list[RewriteRequest] = Field(min_length=1)


class AttemptGrounding(_Strict):
    """How a guided attempt reads to the target without its guide."""

    answer_logprob: float | None = Field(
        description="nats, of the tokens that first state the answer; null: none that was found do"
    )
    mean_logprob: float = Field(description="nats a token")
    expert_mean_logprob: float | None = Field(description="nats a token of the expert's solution")


class AttemptSummary(_Strict):
    stage: str
    sample_index: int
    outcome: Outcome
    reason: str
    refusal: str | None
    tokens: int
    finish_reason: str
    grounding: AttemptGrounding | None = Field(
        None, description="of guided attempts that are right and that no other rule rejects"
    )


class TokenCounts(_Strict):
    prompt: int = Field(description="of the plain prompt")
    sampled: int = Field(description="over all attempts")
    kept: int = Field(description="of the result, end of turn included")
    thought: int = Field(0, description="of the result's, those before its answer, markers included")


class Timings(_Strict):
    total_s: float
    sampling_s: float = Field(description="waiting for the engine, summed over its calls")
    verifying_s: float = Field(description="waiting for verdicts, summed over samples")


class RewriteResult(_Strict):
    """What became of a problem, and how."""

    id: str = Field(description="of the request; also in the X-Request-Id header")
    problem_id: str = Field(description="of the content; equal problems have equal ids")
    source: Source
    solution: str | None = Field(description="None where nothing was accepted and there is no fallback")
    thought: str | None = Field(None, description="what the solution's author thought before; None without")
    answer: str | None = Field(description="as the verifier read it from the solution")
    outcome: Outcome | None = Field(description="the verdict on the solution; None without one")
    reason: str
    attempts: tuple[AttemptSummary, ...]
    tokens: TokenCounts
    timings: Timings
    mean_phi: float | None = Field(description="nats a token; near 0: as likely as the target's own samples")
    seed: int
    model: str


class BatchLine(_Strict):
    """A line of the answer to a batch: a result, or an error as a problem document."""

    index: int = Field(description="of the problem within the request")
    result: RewriteResult | None = None
    error: "ErrorBody | None" = None


class ErrorBody(_Strict):
    """RFC 9457 problem details; served as application/problem+json."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Too Many Requests",
                    "status": 429,
                    "detail": "the service is full; try again in 3 s",
                    "request_id": "0f8e2c",
                }
            ]
        }
    )

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    errors: tuple[dict[str, Any], ...] = Field((), description="each with `field` and `message`")


class Readiness(_Strict):
    status: Literal["ready"]
    engine_requests: int = Field(description="under way in the engine that was asked")


class VersionInfo(_Strict):
    drsft: str
    model: str
    fingerprint: str = Field(description="of the model's files")
