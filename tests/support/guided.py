"""Records of one guided attempt that was scored without its guide."""

from drsft.policy.fake import text_completion
from drsft.records import (
    Attempt,
    GroundingScores,
    Outcome,
    Phase,
    Problem,
    Record,
    Rejection,
    RejectionKind,
    Rollout,
    Source,
    Verdict,
)


def guided_attempt(
    answer_logprob: float | None,
    text: str = "2 + 2 = 4",
    *,
    is_accepted: bool = True,
    mean_logprob: float = -1.25,
    expert_mean_logprob: float | None = -1.5,
) -> Attempt:
    return Attempt(
        rollout=Rollout(
            phase=Phase.GUIDED, sample_index=0, seed=1, prompt_hash="", completion=text_completion(text)
        ),
        verdict=Verdict(outcome=Outcome.CORRECT, reason="equal"),
        rejection=None if is_accepted else Rejection(RejectionKind.UNGROUNDED),
        grounding=GroundingScores(
            answer_logprob=answer_logprob,
            mean_logprob=mean_logprob,
            expert_mean_logprob=expert_mean_logprob,
        ),
    )


def guided_record(*attempts: Attempt, problem_id: str = "p", question: str = "How many?") -> Record:
    is_kept = any(attempt.is_accepted for attempt in attempts)
    return Record(
        problem=Problem(problem_id=problem_id, question=question, demonstration="2 + 2 = 4", reference="4"),
        source=Source.REWRITTEN if is_kept else Source.EXPERT,
        prompt_ids=(1,),
        completion_ids=(2,),
        text="",
        behaviour_logprobs_T=None,
        attempts=attempts,
    )
