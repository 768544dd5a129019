"""The frozen records that pass between stages, and the identities they carry.

Axes: K samples per problem, T tokens of one completion.

Ids and seeds are hashes of what they identify, so a shard that is done twice asks for the same samples.
A seed fixes what the engine is asked for, not its batch-dependent rounding: the promise is "same plan".
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Attempt",
    "Completion",
    "Outcome",
    "Problem",
    "Record",
    "Rollout",
    "Sampling",
    "Source",
    "Verdict",
    "problem_id_of",
    "stable_seed",
]


class Outcome(StrEnum):
    """What a verifier found. Only CORRECT is ever trained on; a verifier's failure is UNJUDGED."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    UNJUDGED = "unjudged"


class Source(StrEnum):
    """Where the text that is trained on came from."""

    OWN = "own"  # the target's unguided sample
    REWRITTEN = "rewritten"  # the target's sample with the demonstration in view
    HINTED = "hinted"  # the target's, decoded from the plain prompt and a hinted one at once
    TEACHER = "teacher"  # another model's solution, verified
    EXPERT = "expert"  # the dataset's demonstration
    DROPPED = "dropped"  # nothing was accepted and the recipe keeps no expert rows; not trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with its reference answer and the expert's demonstration."""

    problem_id: str
    question: str
    demonstration: str
    reference: str
    kind: str = "math"  # which verifier judges it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What is asked of a policy: `num_samples` completions of a prompt; sample i has `seed + i`."""

    num_samples: int
    temperature: float
    max_tokens: int
    seed: int
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled continuation. `token_ids` end with the end-of-turn token when `finish_reason` is "stop"."""

    token_ids: tuple[int, ...]  # T
    text: str  # without special tokens
    behaviour_logprobs_T: tuple[float, ...] | None  # processed (after temperature), nats; None: not known
    finish_reason: str  # "stop", "length", or "loop" where Hinted Decoding cut a loop off


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A completion with what produced it."""

    stage: str  # "self_align", "guided", "analysis", "hinted", "teacher" or "teacher_guided": of which prompt
    sample_index: int
    seed: int
    prompt_hash: str
    completion: Completion
    policy: str = "target"  # or the teacher's model name
    round: int = 1  # whose target it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verifier's finding with a reason that can be counted; `answer` as extracted, before normalising."""

    outcome: Outcome
    reason: str
    answer: str | None = None

    @property
    def is_correct(self) -> bool:
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A rollout and what was found about it. `steps` is the check of a right guided solution's equations."""

    rollout: Rollout
    verdict: Verdict
    refusal: str | None = None  # why it is not kept although it may be right
    steps: Verdict | None = None
    mean_phi: float | None = None  # nats, under the target and the plain prompt; None: not asked for

    @property
    def is_accepted(self) -> bool:
        return self.verdict.is_correct and self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One problem after rewriting: what is trained on, and how it came to that.

    `prompt_ids` is always the plain prompt (never the guided one); `completion_ids` end with the
    end-of-turn token.
    `behaviour_logprobs_T` is None for EXPERT rows (the expert's policy is unknown); for REWRITTEN rows they
    were conditioned on the guided prompt, for HINTED rows on both prompts.
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
    also_kept: tuple[Completion, ...] = field(
        default=()
    )  # further accepted ones, where more than one is wanted
    round: int = 1  # in which it was rewritten last; later rounds carry it over as it is

    @property
    def kept_attempt(self) -> Attempt | None:
        """The attempt whose completion is trained on; None where that is the expert's text, or nothing."""
        if self.source in (Source.EXPERT, Source.DROPPED):
            return None  # what was decoded beside the cascade may say the same as the expert
        for attempt in self.attempts:
            if attempt.is_accepted and attempt.rollout.completion.token_ids == self.completion_ids:
                return attempt
        return None

    @property
    def num_sampled_tokens(self) -> int:
        """By the target; a teacher's tokens are not its own."""
        rollouts = (attempt.rollout for attempt in self.attempts)
        return sum(len(one.completion.token_ids) for one in rollouts if one.stage != "teacher")


def problem_id_of(question: str, reference: str) -> str:
    """A stable id from the content; equal problems from two files meet."""
    return hashlib.blake2b(f"{question.strip()}\x00{reference.strip()}".encode(), digest_size=10).hexdigest()


def stable_seed(run_seed: int, *parts: str) -> int:
    """A 31-bit seed from the run's seed and the names of what is drawn (Python's hash() is salted)."""
    digest = hashlib.blake2b("/".join((str(run_seed), *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33
