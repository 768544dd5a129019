"""What an objective has to be given before its weights can be told."""

from dataclasses import dataclass

from drsft.config.objectives import (
    Asft,
    DftGeomean,
    DftSeq,
    Eaft,
    Idft,
    IwSft,
    IwSftToken,
    Objective,
    Psft,
    SftKl,
    Talr,
)

__all__ = ["Needs", "needs_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    start_logprobs: bool = False  # the frozen start's log-probs of the labels, scored once
    start_model: bool = False  # the frozen start itself, for its whole distribution
    kl_weight: float = 0.0
    steps_per_snapshot: int | None = None  # the policy's own log-probs, scored again after so many steps
    whole_documents: bool = False  # a token's weight depends on its whole completion
    top_k: int | None = None
    entropy_epsilon: float = 0.0

    @property
    def compares(self) -> bool:
        """Whether two passes over the same tokens meet, which must not differ by dropout."""
        return self.start_logprobs or self.start_model or self.steps_per_snapshot is not None


def needs_of(objective: Objective) -> Needs:
    match objective:
        case IwSft():
            return Needs(start_logprobs=True, whole_documents=True)
        case IwSftToken():
            return Needs(start_logprobs=True)
        case DftSeq() | DftGeomean():
            return Needs(whole_documents=True)
        case Asft(kl_weight=kl_weight) | SftKl(kl_weight=kl_weight):
            return Needs(start_model=True, kl_weight=kl_weight)
        case Psft(steps_per_snapshot=steps):
            return Needs(steps_per_snapshot=steps)
        case Talr():
            return Needs(steps_per_snapshot=1)
        case Eaft(top_k=top_k):
            return Needs(top_k=top_k)
        case Idft(entropy_epsilon=epsilon):
            return Needs(entropy_epsilon=epsilon)
        case _:
            return Needs()
