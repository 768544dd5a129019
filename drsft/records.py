"""Defines the frozen records that pass between stages, and their ids.

Axes: K samples per problem, T tokens of one completion.

Ids and seeds are hashes of what they identify, so a shard that is done twice requests the same samples. The
same request can still give slightly different samples, since an engine's rounding depends on the batch.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "NO_EQUATION_READ",
    "Attempt",
    "Completion",
    "FinishReason",
    "GroundingScores",
    "Message",
    "Outcome",
    "Phase",
    "Problem",
    "QuarantinedRow",
    "Record",
    "Rejection",
    "RejectionKind",
    "Rollout",
    "Sampling",
    "Source",
    "StepReport",
    "ThoughtPart",
    "Verdict",
    "problem_id_of",
    "stable_seed",
]


class Outcome(StrEnum):
    """A verifier's finding. Samples are trained on only if they are CORRECT; a verifier's failure is
    UNJUDGED.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    UNJUDGED = "unjudged"


class Source(StrEnum):
    """The origin of the text that is trained on."""

    OWN = "own"  # the target's unguided sample
    REWRITTEN = "rewritten"  # the target's sample with the demonstration in view
    HINTED = "hinted"  # the target's, decoded from the plain prompt and a hinted one at once
    TEACHER = "teacher"  # another model's solution, verified
    EXPERT = "expert"  # the dataset's demonstration
    DROPPED = "dropped"  # nothing was accepted and the recipe keeps no expert rows; not trained on


class Phase(StrEnum):
    """A part of the cascade, which rewrites a problem; each has its own prompt. They may run in this
    order.
    """

    SELF_ALIGN = "self_align"  # the plain prompt
    GUIDED = "guided"  # the demonstration or the answer in view
    ANALYSIS = "analysis"  # the hinted prompt; opens the hinted turn, never a solution
    HINTED = "hinted"  # the plain prompt and the hinted one at once
    TEACHER = "teacher"  # the plain prompt, to another model
    TEACHER_GUIDED = "teacher_guided"  # a teacher's solution in view


class FinishReason(StrEnum):
    """Why a completion ended. A reason that only a teacher's endpoint uses is stored unchanged."""

    STOP = "stop"  # with the end of the turn
    LENGTH = "length"  # at the token limit
    LOOP = "loop"  # Hinted Decoding cut a loop off
    STOPPED = "stopped"  # by the caller of the policy; such a sample is in no record
    ERROR = "error"  # a teacher gave no solution

    @classmethod
    def _missing_(cls, value: object) -> "FinishReason | None":
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = "OTHER", value
        return member


class RejectionKind(StrEnum):
    """The reasons to reject a sample although its answer is right."""

    EMPTY = "empty"
    LOOPS = "loops"
    MENTIONS_GUIDE = "mentions its guide"  # detail: the name of the phrase
    THOUGHT_MENTIONS_GUIDE = "its thought mentions its guide"  # likewise
    SEVERAL_BOXES = "several different boxed answers"
    UNSOUND_STEPS = "its equations do not hold"  # the only reason to reject it
    TOO_FEW_STEPS = "too few equations"  # that could be read
    UNDERIVED = "no calculation gives its answer"
    UNGROUNDED = "its answer does not follow from it"  # to the target, without the guide
    WIDENS_GAP = "less likely than the expert's text"  # to the target, without the guide
    TOO_LONG = "too long for the model"
    OTHER = "other"  # of another version of drsft; detail: its whole text


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why a sample is rejected although its answer may be right. `str()` is the text that records
    store.
    """

    kind: RejectionKind
    detail: str = ""

    def __str__(self) -> str:
        if self.kind is RejectionKind.OTHER:
            return self.detail
        return f"{self.kind}: {self.detail}" if self.detail else self.kind.value

    @classmethod
    def from_text(cls, text: str) -> "Rejection":
        """Returns the rejection whose stored text, its `str()`, is `text`."""
        name, colon, detail = text.partition(": ")
        try:
            kind = RejectionKind(name)
        except ValueError:
            kind = RejectionKind.OTHER
        is_known = kind is not RejectionKind.OTHER and bool(colon) == bool(detail)
        return cls(kind, detail) if is_known else cls(RejectionKind.OTHER, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str  # system, user or assistant
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with its reference answer and the expert's demonstration.

    A question may end a conversation: then it is the last user turn, and `earlier` are the turns before it.
    """

    problem_id: str
    question: str
    demonstration: str
    reference: str
    kind: str = "math"  # which verifier judges it
    earlier: tuple[Message, ...] = ()  # in order; a system turn, where there is one, comes first

    @property
    def whole_question(self) -> str:
        """The texts of all earlier turns, followed by the question, without roles."""
        return "\n\n".join([*(turn.content for turn in self.earlier), self.question])

    @property
    def question_by_role(self) -> str:
        """The question; if there are earlier turns, these and the question, each under its role."""
        if not self.earlier:
            return self.question
        turns = (*self.earlier, Message(role="user", content=self.question))
        return "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """A row that was set aside. `reason` is one of a few fixed texts, so that reports can count it; `detail`
    is about this row.
    """

    place: str
    reason: str
    detail: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """A request to a policy: `num_samples` completions of a prompt; sample i has `seed + i`."""

    num_samples: int
    temperature: float
    max_tokens: int
    seed: int
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtPart:
    """The thought at the start of a completion; the completion's ids include it."""

    text: str  # without its markers; may be empty
    num_tokens: int  # the completion's first tokens, up to the end of its thought, markers included
    is_closed: bool = True  # there is no answer after an open thought


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled continuation. `token_ids` end with the end-of-turn token when `finish_reason` is STOP."""

    token_ids: tuple[int, ...]  # T
    text: str  # of the answer, without special tokens
    behaviour_logprobs_T: tuple[float, ...] | None  # processed (after temperature), nats; None: not known
    finish_reason: FinishReason
    thought: ThoughtPart | None = None  # None: the model's template marks none, or it does not think

    @property
    def is_truncated(self) -> bool:
        return self.finish_reason is not FinishReason.STOP

    @property
    def has_open_thought(self) -> bool:
        return self.thought is not None and not self.thought.is_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A completion with the prompt, phase and seed that produced it."""

    phase: Phase
    sample_index: int
    seed: int
    prompt_hash: str
    completion: Completion
    policy: str = "target"  # or the teacher's model name
    round: int = 1  # whose target it was


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """The equations that the step check read: how many, how many are false, and the first false one as
    written.

    `derives_answer` says whether a calculation gives the answer, or None if unknown; records do not store it.
    """

    num_read: int
    num_failed: int
    first_failure: str | None = None
    derives_answer: bool | None = field(default=None, compare=False)

    @property
    def holds(self) -> bool:
        return self.num_failed == 0

    @property
    def text(self) -> str:
        """The counts as text, which becomes part of a verdict's reason."""
        return f"{self.num_failed} of {self.num_read} equations fail"

    @classmethod
    def from_stored(cls, reason: str, answer: str | None) -> "StepReport | None":
        """Returns the report behind a stored verdict; None if the step check did not decide it.

        For readers of a run's folder only: its tables hold a verdict's reason and answer, and no report.
        """
        if reason == NO_EQUATION_READ:
            return cls(num_read=0, num_failed=0)
        counts = _STEP_COUNTS.fullmatch(reason)
        if counts is None:
            return None
        return cls(num_read=int(counts[2]), num_failed=int(counts[1]), first_failure=answer)


NO_EQUATION_READ = "no equation read"  # the reason of a verdict on steps
_STEP_COUNTS = re.compile(r"(?:right answer, but )?(\d+) of (\d+) equations fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verifier's finding; `answer` is as extracted, before normalising.

    `reason` is a short text by which reports count verdicts. `steps` is the report on the text's equations
    if the verdict depends on them, and None if it depends on the answer alone.
    """

    outcome: Outcome
    reason: str
    answer: str | None = None
    steps: StepReport | None = None

    @property
    def is_correct(self) -> bool:
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingScores:
    """How likely a guided solution is without its guide: log-probs after the plain prompt, in nats."""

    answer_logprob: float | None  # of the tokens that first state the answer; None where none do
    mean_logprob: float  # a token of the whole solution
    expert_mean_logprob: float | None  # a token of the demonstration; None where it is not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A rollout with its verdict. `steps` is another verdict, on the equations of a right guided solution."""

    rollout: Rollout
    verdict: Verdict
    rejection: Rejection | None = None
    steps: Verdict | None = None
    mean_phi: float | None = None  # nats, under the target and the plain prompt; None: not asked for
    grounding: GroundingScores | None = None  # of right guided solutions, where the recipe asks for it

    @property
    def is_accepted(self) -> bool:
        return self.verdict.is_correct and self.rejection is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One problem after rewriting: the text to train on, its source, and every attempt.

    `prompt_ids` is always the plain prompt (never the guided one); `completion_ids` end with the end-of-turn
    token. `behaviour_logprobs_T` is None for EXPERT rows (the expert's policy is unknown); for REWRITTEN rows
    they were conditioned on the guided prompt, for HINTED rows on both prompts.
    """

    problem: Problem
    source: Source
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    text: str
    behaviour_logprobs_T: tuple[float, ...] | None
    attempts: tuple[Attempt, ...] = field(default=())
    expert_completion_ids: tuple[int, ...] = field(default=())
    expert_verdict: Verdict | None = None  # of the demonstration's own answer
    further_completions: tuple[Completion, ...] = field(default=())  # where more than one is wanted
    round: int = 1  # the round that last rewrote it; later rounds carry it over unchanged
    thought: ThoughtPart | None = None  # of `completion_ids`

    @property
    def kept_attempt(self) -> Attempt | None:
        """The accepted attempt whose completion is trained on.

        None if the expert's text or nothing is trained on, or if no attempt has this completion.
        """
        if self.source in (Source.EXPERT, Source.DROPPED):
            return None  # Hinted Decoding beside the cascade may give the same text as the expert's
        for attempt in self.attempts:
            if attempt.is_accepted and attempt.rollout.completion.token_ids == self.completion_ids:
                return attempt
        return None

    @property
    def num_sampled_tokens(self) -> int:
        """The number of tokens that the target sampled; a teacher's tokens do not count."""
        rollouts = (attempt.rollout for attempt in self.attempts)
        return sum(len(one.completion.token_ids) for one in rollouts if one.phase is not Phase.TEACHER)


def problem_id_of(question: str, reference: str, earlier: Sequence[Message] = ()) -> str:
    """Returns an id hashed from the content, earlier turns included: equal problems of two files share it."""
    asked = question.strip()
    if earlier:
        turns = [*((turn.role, turn.content.strip()) for turn in earlier), ("user", asked)]
        asked = json.dumps(turns)
    return hashlib.blake2b(f"{asked}\x00{reference.strip()}".encode(), digest_size=10).hexdigest()


def stable_seed(run_seed: int, *parts: str) -> int:
    """Returns a 31-bit seed from the run's seed and the names of what is drawn.

    Python's hash() would differ between processes.
    """
    digest = hashlib.blake2b("/".join((str(run_seed), *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33
