"""The events of the cascade: what it reports while it rewrites a problem.

Progress, metrics and the service's stream listen to these. Spans do not: they have to be open around the work
that they time, so the cascade opens them itself (drsft/process/tracing.py).
"""

from collections.abc import Sequence
from typing import Protocol

from drsft.records import Attempt, Phase, Record

__all__ = ["NO_EVENTS", "CascadeEvents", "NoEvents"]


class CascadeEvents(Protocol):
    """Listens to the cascade (the phases in which a problem is sampled) of one or several problems.

    Its methods are called in the cascade's event loop, in the order of what happens, and must return at once.
    Within a problem, a sample is identified by its phase and its index in that phase.
    """

    @property
    def wants_tokens(self) -> bool:
        """Whether to call `tokens_sampled`. If not, engines need not send tokens one by one."""
        ...

    def phase_begun(self, phase: Phase) -> None:
        """Called when a phase is about to sample for the first time.

        A phase that samples nothing does not begin.
        """
        ...

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        """Called when a sample is requested."""
        ...

    def tokens_sampled(self, phase: Phase, sample_index: int, token_ids: Sequence[int]) -> None:
        """Called when a sample has new tokens. Not every policy reports them, and a retry may skip some."""
        ...

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        """Called when a sample is complete or was stopped."""
        ...

    def attempt_judged(self, attempt: Attempt) -> None:
        """Called when a sample has been judged and accepted or rejected; not for a stopped sample."""
        ...

    def record_made(self, record: Record) -> None:
        """Called when a problem is done, with its record."""
        ...


class NoEvents:
    """Ignores every event; listeners override the methods that they need."""

    @property
    def wants_tokens(self) -> bool:
        return False

    def phase_begun(self, phase: Phase) -> None:
        pass

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        pass

    def tokens_sampled(self, phase: Phase, sample_index: int, token_ids: Sequence[int]) -> None:
        pass

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        pass

    def attempt_judged(self, attempt: Attempt) -> None:
        pass

    def record_made(self, record: Record) -> None:
        pass


NO_EVENTS = NoEvents()
