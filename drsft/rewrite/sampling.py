"""Samples a phase in waves: a wave is the samples of one problem that are requested together.

Each sample is judged as soon as it ends.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drsft.config import SamplingPhase, Selection
from drsft.policy.protocol import Draw, Policy, draws_of
from drsft.process.tracing import span
from drsft.records import (
    Attempt,
    FinishReason,
    Phase,
    Problem,
    Rollout,
    Sampling,
    stable_seed,
)
from drsft.rewrite.budget import ProblemBudget
from drsft.rewrite.early_stop import EarlyStop
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.grounding import GroundingCheck
from drsft.rewrite.judging import AcceptanceRules, judge_rollout
from drsft.verify.protocol import Verifier

__all__ = ["PhasePlan", "hash_ids", "sample_in_waves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """The settings of one phase for one problem: prompt, sampling, rules, and how many accepted samples are
    enough.
    """

    phase: Phase
    problem: Problem
    prompt_ids: tuple[int, ...]
    sampling: SamplingPhase
    num_accepted: int  # different solutions that are enough
    run_seed: int
    rules: AcceptanceRules
    selection: Selection
    stop_beaten: bool
    grounding_check: GroundingCheck | None = None


async def sample_in_waves(
    plan: PhasePlan,
    policy: Policy,
    verifier: Verifier,
    budget: ProblemBudget,
    events: CascadeEvents = NO_EVENTS,
) -> list[Attempt]:
    """Samples one phase of one problem and returns the judged samples, in order of their index.

    Requests `wave_size` samples at a time until enough are accepted, all are drawn, or the budget is spent.
    Samples that can no longer be kept are stopped: their tokens are spent, but they are not returned (see
    early_stop.py).
    """
    return await _PhaseSampler(plan, policy, verifier, budget, events).run()


class _PhaseSampler:
    """The state of one phase of one problem while it samples."""

    def __init__(
        self,
        plan: PhasePlan,
        policy: Policy,
        verifier: Verifier,
        budget: ProblemBudget,
        events: CascadeEvents,
    ) -> None:
        self._plan, self._policy, self._verifier = plan, policy, verifier
        self._budget, self._events = budget, events
        self._prompt_hash = hash_ids(plan.prompt_ids)
        self._early_stop = EarlyStop(
            plan.selection,
            plan.num_accepted,
            problem_id=plan.problem.problem_id,
            run_seed=plan.run_seed,
            is_on=plan.stop_beaten,
        )

    async def run(self) -> list[Attempt]:
        attempts: list[Attempt] = []
        settings = self._plan.sampling
        while len(attempts) < settings.num_samples and not self._early_stop.has_enough:
            num_samples = min(settings.wave_size, settings.num_samples - len(attempts))
            async with self._budget.reserve(num_samples, max_tokens=settings.max_tokens) as may_sample:
                if not may_sample:
                    break
                if not attempts:
                    self._events.phase_begun(self._plan.phase)
                attempts += await self._run_wave(num_samples, first_index=len(attempts))
        return attempts

    async def _run_wave(self, num_samples: int, *, first_index: int) -> list[Attempt]:
        sampling = self._sampling(num_samples, first_index=first_index)
        draws = self._draw(sampling, first_index=first_index)
        try:
            found = await asyncio.gather(
                *(self._attempt(index, sampling.seed + index - first_index, draws) for index in draws)
            )
        except BaseException:
            for draw in draws.values():
                draw.stop()
            raise
        return [one for one in found if one and self._early_stop.can_be_kept(one.rollout.sample_index)]

    def _sampling(self, num_samples: int, *, first_index: int) -> Sampling:
        plan, settings = self._plan, self._plan.sampling
        return Sampling(
            num_samples=num_samples,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=stable_seed(plan.run_seed, plan.problem.problem_id, plan.phase, str(first_index)),
        )

    def _draw(self, sampling: Sampling, *, first_index: int) -> dict[int, Draw]:
        """Requests a wave from the policy; returns the draws by sample index."""
        phase = self._plan.phase
        for index in range(first_index, first_index + sampling.num_samples):
            self._events.sample_begun(phase, index)

        def on_tokens(index: int, token_ids: Sequence[int]) -> None:
            self._events.tokens_sampled(phase, first_index + index, token_ids)

        draws = draws_of(
            self._policy,
            self._plan.prompt_ids,
            sampling,
            on_tokens=on_tokens if self._events.wants_tokens else None,
        )
        return dict(enumerate(draws, start=first_index))

    async def _attempt(self, index: int, seed: int, draws: Mapping[int, Draw]) -> Attempt | None:
        """Returns a sample once it is complete and judged; stops other samples that can then no longer be
        kept.

        Returns None if the sample itself was stopped.
        """
        phase = self._plan.phase
        with span("sample", sample=index) as opened:
            completion = await draws[index].completion
            opened.set_attribute("tokens", len(completion.token_ids))
            opened.set_attribute("finish_reason", completion.finish_reason.value)
        self._budget.spend(len(completion.token_ids))
        self._events.sample_ended(phase, index)
        if completion.finish_reason is FinishReason.STOPPED:
            return None
        rollout = Rollout(
            phase=phase, sample_index=index, seed=seed, prompt_hash=self._prompt_hash, completion=completion
        )
        plan = self._plan
        attempt = await judge_rollout(rollout, plan.problem, plan.rules, self._verifier, plan.grounding_check)
        self._events.attempt_judged(attempt)
        if attempt.is_accepted:
            self._early_stop.add(attempt)
            for other, draw in draws.items():
                if not self._early_stop.can_be_kept(other):
                    draw.stop()
        return attempt


def hash_ids(token_ids: Sequence[int]) -> str:
    """Returns a hash of a prompt's token ids: 16 hex digits."""
    return hashlib.blake2b(",".join(map(str, token_ids)).encode(), digest_size=8).hexdigest()
