"""The report's numbers on the cascade: its phases, and the sources of the kept rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from drsft.records import Outcome, Phase, Rejection, Source

__all__ = ["Cascade", "CascadePhase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadePhase:
    """The counts of one phase of the cascade over the whole run: problems, samples, tokens, time and
    verdicts.
    """

    phase: Phase
    num_problems: int  # that reached this phase
    num_solved: int  # that it found an accepted solution for
    num_samples: int = 0
    num_tokens: int = 0  # sampled here, rejected samples included
    worker_s: float | None = None  # time at work, shared out over the phases by tokens
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)  # samples by verdict
    reasons: Mapping[str, int] = field(default_factory=dict)  # rejected samples by the verdict's reason
    is_separate: bool = False  # not part of the flow: it samples for a data view of its own

    @property
    def tokens_per_solved(self) -> float | None:
        """Tokens sampled for each problem that the phase solved; None when it solved none."""
        return self.num_tokens / self.num_solved if self.num_solved else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """The sources of the kept rows, and the cost of each phase."""

    phases: tuple[CascadePhase, ...]
    sources: Mapping[Source, int]  # kept rows, with those that a later round carried over
    rejections: Mapping[Rejection, int] = field(default_factory=dict)  # of right samples
    num_steps_checked: int = 0  # guided samples, accepted but for these, whose equations could be read
    num_steps_failed: int = 0  # of these, with a false equation
    num_contradicting: int = 0  # demonstrations whose own answer is not the reference
    num_pairs: int = 0  # of contexts that Hinted Decoding kept in step
    num_pairs_redone: int = 0  # times that one fell out of step and resumed from its last confirmed token
    num_pairs_apart: int = 0  # ended up decoded separately
    num_carried: int = 0  # rows carried over from the round before
    sampled: Mapping[Source, int] = field(default_factory=dict)  # what this round made of the others

    @property
    def ends(self) -> Mapping[Source, int]:
        """The number of problems by source, as this round's phases decided it. Records that it took over
        unchanged from the previous round do not count.
        """
        return self.sampled or self.sources

    @property
    def solving_phases(self) -> tuple[CascadePhase, ...]:
        """The phases that can solve a problem. The analysis phase, which only prepares Hinted Decoding, is
        left out; its tokens are counted with those of Hinted Decoding.
        """
        phases = {one.phase: one for one in self.phases}
        analysis = phases.get(Phase.ANALYSIS)
        if analysis is None:
            return self.phases
        absent = CascadePhase(
            phase=Phase.HINTED, num_problems=0, num_solved=0, is_separate=analysis.is_separate
        )
        hinted = phases.get(Phase.HINTED, absent)
        whole = replace(
            hinted,
            num_problems=max(analysis.num_problems, hinted.num_problems),
            num_tokens=analysis.num_tokens + hinted.num_tokens,
        )
        return tuple(
            whole if phase is Phase.ANALYSIS else one
            for phase, one in phases.items()
            if phase is not Phase.HINTED
        )

    @property
    def num_kept(self) -> int:
        return sum(self.sources.values())

    @property
    def num_tokens(self) -> int:
        return sum(one.num_tokens for one in self.phases)

    def share(self, source: Source) -> float:
        return self.sources.get(source, 0) / self.num_kept if self.num_kept else 0.0
