"""Sampling in waves: each sample is judged, checked for reasons to reject it, and recorded."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from drsft.config import Rejections, SamplingPhase, Selection
from drsft.policy.protocol import Draw, OnTokens, Policy, draws_of
from drsft.process.tracing import span
from drsft.records import (
    Attempt,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Rejection,
    RejectionKind,
    Rollout,
    Sampling,
    stable_seed,
)
from drsft.rewrite.budget import ProblemAllowance
from drsft.rewrite.early_stop import Race
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.rejection import different_boxes, rejection_of
from drsft.verify.protocol import Verifier
from drsft.verify.steps import MATH_KINDS

__all__ = ["Wave", "examine", "hash_ids", "sample_in_waves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What all waves of one stage of one problem share."""

    phase: Phase
    problem: Problem
    prompt_ids: tuple[int, ...]
    sampling: SamplingPhase
    num_accepted: int  # different solutions that are enough
    run_seed: int
    rejections: Rejections
    sees_guide: bool  # a solution stands in its prompt
    checks_steps: bool
    require_steps: bool
    selection: Selection
    stop_beaten: bool


async def sample_in_waves(
    wave: Wave,
    policy: Policy,
    verifier: Verifier,
    allowance: ProblemAllowance,
    events: CascadeEvents = NO_EVENTS,
) -> list[Attempt]:
    """Wave after wave until enough were accepted, all samples were drawn, or the allowance is spent.

    Samples that can no longer be kept are stopped: spent, but not among the attempts (see early_stop.py).
    """
    return await _Stage(wave, policy, verifier, allowance, events).run()


class _Stage:
    """One stage of one problem under way."""

    def __init__(
        self,
        wave: Wave,
        policy: Policy,
        verifier: Verifier,
        allowance: ProblemAllowance,
        events: CascadeEvents,
    ) -> None:
        self._events = events
        self._wave, self._policy, self._verifier, self._allowance = wave, policy, verifier, allowance
        self._prompt_hash = hash_ids(wave.prompt_ids)
        self._race = Race(
            wave.selection,
            wave.num_accepted,
            problem_id=wave.problem.problem_id,
            run_seed=wave.run_seed,
            stops_beaten=wave.stop_beaten,
        )

    async def run(self) -> list[Attempt]:
        attempts: list[Attempt] = []
        stage = self._wave.sampling
        while len(attempts) < stage.num_samples and not self._race.has_enough:
            num_samples = min(stage.wave_size, stage.num_samples - len(attempts))
            async with self._allowance.hold(num_samples, max_tokens=stage.max_tokens) as may_sample:
                if not may_sample:
                    break
                if not attempts:
                    self._events.phase_begun(self._wave.phase)
                attempts += await self._run_wave(num_samples, first_index=len(attempts))
        return attempts

    async def _run_wave(self, num_samples: int, *, first_index: int) -> list[Attempt]:
        wave, stage = self._wave, self._wave.sampling
        seed = stable_seed(wave.run_seed, wave.problem.problem_id, wave.phase, str(first_index))
        sampling = Sampling(
            num_samples=num_samples,
            temperature=stage.temperature,
            top_p=stage.top_p,
            max_tokens=stage.max_tokens,
            seed=seed,
        )
        for index in range(first_index, first_index + num_samples):
            self._events.sample_begun(wave.phase, index)
        on_tokens = self._on_tokens(first_index) if self._events.wants_tokens else None
        drawn = draws_of(self._policy, wave.prompt_ids, sampling, on_tokens=on_tokens)
        draws = dict(enumerate(drawn, start=first_index))
        try:
            found = await asyncio.gather(
                *(self._attempt(index, seed=seed + index - first_index, draws=draws) for index in draws)
            )
        except BaseException:
            for draw in draws.values():
                draw.stop()
            raise
        return [one for one in found if one and not self._race.is_beaten(one.rollout.sample_index)]

    def _on_tokens(self, first_index: int) -> OnTokens:
        def on_tokens(index: int, token_ids: Sequence[int]) -> None:
            self._events.tokens_sampled(self._wave.phase, first_index + index, token_ids)

        return on_tokens

    async def _attempt(self, index: int, *, seed: int, draws: Mapping[int, Draw]) -> Attempt | None:
        """The sample with its verdict; stops those that it beats. None where it was stopped itself."""
        with span("sample", sample=index) as opened:
            completion = await draws[index].completion
            opened.set_attribute("tokens", len(completion.token_ids))
            opened.set_attribute("finish_reason", completion.finish_reason.value)
        self._allowance.spend(len(completion.token_ids))
        self._events.sample_ended(self._wave.phase, index)
        if completion.finish_reason is FinishReason.STOPPED:
            return None
        rollout = Rollout(
            phase=self._wave.phase,
            sample_index=index,
            seed=seed,
            prompt_hash=self._prompt_hash,
            completion=completion,
        )
        attempt = await examine(rollout, self._wave, self._verifier)
        self._events.attempt_judged(attempt)
        if attempt.is_accepted:
            self._race.enter(attempt)
            for other, draw in draws.items():
                if self._race.is_beaten(other):
                    draw.stop()
        return attempt


async def examine(rollout: Rollout, wave: Wave, verifier: Verifier) -> Attempt:
    """Judge a rollout and look for reasons to reject it; right ones with a guide get the step check."""
    completion = rollout.completion
    with span("verify", sample=rollout.sample_index) as opened:
        verdict = await verifier.judge(wave.problem, completion.text, is_truncated=completion.is_truncated)
        opened.set_attribute("outcome", verdict.outcome.value)
        opened.set_attribute("reason", verdict.reason)
    if not verdict.is_correct:
        return Attempt(rollout=rollout, verdict=verdict)
    rejection = rejection_of(
        completion.text,
        completion.token_ids,
        wave.rejections,
        question=wave.problem.question,
        is_guided=wave.sees_guide,
    )
    if rejection is None and wave.rejections.several_boxes:
        rejection = await _contradiction_of_boxes(completion.text, wave.problem, verifier)
    steps = None
    if wave.checks_steps and wave.problem.kind in MATH_KINDS:
        with span("verify", sample=rollout.sample_index, of="steps"):
            steps = await verifier.judge(replace(wave.problem, kind="steps"), completion.text)
        if wave.require_steps and steps.outcome is Outcome.WRONG:
            rejection = rejection or Rejection(RejectionKind.UNSOUND_STEPS)
    return Attempt(rollout=rollout, verdict=verdict, rejection=rejection, steps=steps)


async def _contradiction_of_boxes(text: str, problem: Problem, verifier: Verifier) -> Rejection | None:
    """A reason against a right solution of which some box, read by itself, is not the answer."""
    for content in different_boxes(text):
        if not (await verifier.judge(problem, f"\\boxed{{{content}}}")).is_correct:
            return Rejection(RejectionKind.SEVERAL_BOXES)
    return None


def hash_ids(token_ids: Sequence[int]) -> str:
    return hashlib.blake2b(",".join(map(str, token_ids)).encode(), digest_size=8).hexdigest()
