"""Defines the HTTP contract: requests, responses and errors. Unknown fields are rejected.

docs/http.md is written from the descriptions here.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from drsft.policy.turn.part_stream import Part
from drsft.records import Outcome, Source

__all__ = [
    "AttemptEvent",
    "AttemptGrounding",
    "AttemptSummary",
    "BatchLine",
    "BatchRequest",
    "ErrorBody",
    "Readiness",
    "RecipeOverrides",
    "RewriteRequest",
    "RewriteResult",
    "StageEvent",
    "StreamEvent",
    "Timings",
    "TokenCounts",
    "TokensEvent",
    "VerdictEvent",
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
    """The changes that a request makes to the service's recipe. A null field keeps the service's value."""

    self_align_samples: int | None = Field(
        None,
        ge=0,
        description="the most samples from the plain prompt; up to the service's `limits.num_samples`",
    )
    guided_samples: int | None = Field(
        None, ge=0, description="the most samples with the guide in view; up to `limits.num_samples`"
    )
    temperature: float | None = Field(None, gt=0, le=2, description="of sampling, in both phases")
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens of a completion, in both phases; up to the larger of the recipe's own two",
    )
    fallback: Literal["expert", "drop"] | None = Field(
        None, description="what is returned if no sample is accepted: the expert's solution, or none"
    )
    hint: Literal["demonstration", "answer"] | None = Field(
        None, description="the guide of the guided phase: the expert's solution, or the reference alone"
    )


class TextPart(_Strict):
    """One text of a turn whose content is a list."""

    type: Literal["text"] = Field("text", description="only texts are read")
    text: str = Field(description="the text; parts are joined in order")


class Turn(_Strict):
    """A turn of a conversation; fields other than these are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"] = Field(description="who speaks")
    content: str | list[TextPart | str] = Field(description="what is said")
    reasoning_content: str | None = Field(
        None,
        description="the thought before the content, if it is a separate field; read from the last turn only",
    )
    tool_calls: list[Any] | None = Field(None, max_length=0, description="must be empty: only texts are read")


class RewriteRequest(_Strict):
    """One problem, or a conversation that ends with it: exactly one of `problem` and `messages`.

    The guided phase runs only if there is something to show the model: an expert's solution (in
    `expert_solution` or as the last assistant turn), or the reference, if the recipe's `hint` is `answer`.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_PROBLEM, _CONVERSATION]})

    problem: Text | None = Field(None, description="the question")
    messages: list[Turn] | None = Field(
        None,
        min_length=1,
        description="a conversation in the place of `problem`: a system turn, if any, then user and "
        "assistant; the last user turn is the question; a last turn of the assistant is the expert's "
        "solution, unless `expert_solution` is given",
    )
    reference: Text = Field(description="the answer that a solution must reach")
    expert_solution: str | None = Field(None, description="the solution to be rewritten")
    kind: KINDS = Field(
        "math", description="the verifier that judges; `code` only where the service allows it"
    )
    recipe: RecipeOverrides = Field(RecipeOverrides(), description="changes of the service's recipe")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**31,
        description="seeds the sampling; an equal request with a seed gets the same answer; null draws one",
    )
    phi: bool = Field(
        False, description="also return `mean_phi`; 422 from a service that is set up without `score_phi`"
    )
    deadline_s: float | None = Field(
        None,
        ge=1,
        description="seconds until the service responds with 504; at most, and by default, "
        "`limits.deadline_s`",
    )

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "RewriteRequest":
        if (self.problem is None) == (self.messages is None):
            raise ValueError("give exactly one of problem and messages")
        return self


class BatchRequest(_Strict):
    """Several problems, each a request of its own; results are sent in order of completion."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"problems": [_PROBLEM]}]})

    problems: list[RewriteRequest] = Field(
        min_length=1, description="up to the service's `limits.batch_problems`"
    )


class AttemptGrounding(_Strict):
    """How likely the target finds a guided attempt without its guide."""

    answer_logprob: float | None = Field(
        description="log-probability in nats of the tokens that first state the answer; null if none do"
    )
    mean_logprob: float = Field(description="mean log-probability of the attempt, in nats a token")
    expert_mean_logprob: float | None = Field(
        description="the same of the expert's solution; null if there is none or it was not scored"
    )


class AttemptSummary(_Strict):
    """One sample with its verdict."""

    stage: str = Field(description="`self_align` (the plain prompt) or `guided` (the guide in view)")
    sample_index: int = Field(description="number of the sample within its stage, from 0")
    outcome: Outcome = Field(description="the verdict")
    reason: str = Field(description="why the verifier says so")
    refusal: str | None = Field(description="why a correct sample is rejected; null if it is not")
    tokens: int = Field(description="tokens of the sample, its end of turn included")
    finish_reason: str = Field(description="`stop` (the turn ended) or `length` (the token limit)")
    grounding: AttemptGrounding | None = Field(
        None, description="of guided attempts that are correct and that no other rule rejects; else null"
    )


class TokenCounts(_Strict):
    """Counts of tokens."""

    prompt: int = Field(description="of the plain prompt")
    sampled: int = Field(description="sampled in all attempts together")
    kept: int = Field(description="of the returned solution, its thought and its end of turn included")
    thought: int = Field(0, description="of the returned solution's thought, its markers included")


class Timings(_Strict):
    """Where the time went, in seconds."""

    total_s: float = Field(description="from admission to the result")
    sampling_s: float = Field(description="while at least one sample was in an engine")
    verifying_s: float = Field(description="from the end of a sample to its verdict, summed over samples")


class RewriteResult(_Strict):
    """The result for a problem, and how it was found."""

    id: str = Field(description="the request's id; also in the header X-Request-Id")
    problem_id: str = Field(description="hash of the problem's content: equal problems have equal ids")
    source: Source = Field(
        description="who wrote the solution: the target alone (`own`) or with the guide in view "
        "(`rewritten`), the expert (`expert`), or nobody (`dropped`); other values occur in batch jobs only"
    )
    solution: str | None = Field(description="null if no sample was accepted and there is no fallback")
    thought: str | None = Field(None, description="the thought before the solution; null if there is none")
    answer: str | None = Field(description="the answer that the verifier read from the solution")
    outcome: Outcome | None = Field(description="the verdict on the solution; null without a solution")
    reason: str = Field(description="why the verifier says so, or why there is no solution")
    attempts: tuple[AttemptSummary, ...] = Field(description="all samples, in the order of their stages")
    tokens: TokenCounts = Field(description="counts of tokens")
    timings: Timings = Field(description="where the time went")
    mean_phi: float | None = Field(
        description="with `phi`: in nats a token; near 0, the solution is as likely as the target's samples"
    )
    seed: int = Field(description="the request's seed, or the one that was drawn")
    model: str = Field(description="the target, as the service's configuration names it")


class BatchLine(_Strict):
    """One line of the response to a batch: it has `result` or `error`."""

    index: int = Field(description="number of the problem within the request, from 0")
    result: RewriteResult | None = Field(None, description="as from POST /rewrite")
    error: "ErrorBody | None" = Field(None, description="as a request of its own would get it")


class StreamEvent(_Strict):
    """Any event of a stream except the last; `kind` is the event's name."""

    kind: ClassVar[str]

    stage: str = Field(description="`self_align` or `guided`")


class StageEvent(StreamEvent):
    """A phase of the cascade began."""

    kind: ClassVar[str] = "stage"


class SampleEvent(StreamEvent):
    """Base of all events about one sample."""

    sample_index: int = Field(description="number of the sample within its stage, from 0")


class AttemptEvent(SampleEvent):
    """A sample began."""

    kind: ClassVar[str] = "attempt"


class TokensEvent(SampleEvent):
    """New text of a sample.

    When a `thought` comes after an `answer` of the same sample, discard all answers of that sample so far.
    The part of them that belongs to the thought is sent again as a thought.
    """

    kind: ClassVar[str] = "tokens"

    part: Part = Field(description="which part the text continues")
    text: str = Field(description="the new text")


class VerdictEvent(SampleEvent):
    """A sample was judged."""

    kind: ClassVar[str] = "verdict"

    outcome: Outcome = Field(description="the verdict")
    reason: str = Field(description="why the verifier says so")


class ErrorBody(_Strict):
    """Problem details of RFC 9457, sent as application/problem+json."""

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

    type: Literal["about:blank"] = Field("about:blank", description="the status says all that a type would")
    title: str = Field(description="the status in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong, and what to do")
    request_id: str = Field(description="the request's id, by which the service's log has more")
    errors: tuple[dict[str, Any], ...] = Field(
        (), description="with 422: the first 20 wrong fields, each as `field` and `message`"
    )


class Readiness(_Strict):
    """The service is ready."""

    status: Literal["ready"] = Field(description="anything else is an error, 503")
    engine_requests: int = Field(description="requests under way in one engine")


class VersionInfo(_Strict):
    """The version of drsft, and the target with the hash of its files."""

    drsft: str = Field(description="version of drsft")
    model: str = Field(description="the target, as the service's configuration names it")
    fingerprint: str = Field(description="hash of the model's files")
