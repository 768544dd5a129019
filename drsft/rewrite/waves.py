"""Sampling in waves: each sample is judged, looked over for reasons to refuse it, and recorded."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from drsft.config import Refusals, SamplingStage
from drsft.policy.protocol import Policy
from drsft.records import Attempt, Outcome, Problem, Rollout, Sampling, stable_seed
from drsft.rewrite.allowance import Allowance
from drsft.rewrite.refusal import refusal_of
from drsft.verify.protocol import Verifier

__all__ = ["Wave", "examine", "hash_ids", "sample_in_waves"]

MATH_KINDS = ("math", "math+steps", "numeric")  # the step check reads equations


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What all waves of one stage of one problem share."""

    stage: str
    problem: Problem
    prompt_ids: tuple[int, ...]
    sampling: SamplingStage
    num_accepted: int  # different solutions that are enough
    run_seed: int
    refusals: Refusals
    is_guided: bool
    require_steps: bool


async def sample_in_waves(
    wave: Wave, policy: Policy, verifier: Verifier, allowance: Allowance
) -> list[Attempt]:
    """Wave after wave until enough were accepted, all samples were drawn, or the allowance is spent."""
    attempts: list[Attempt] = []
    prompt_hash = hash_ids(wave.prompt_ids)
    while len(attempts) < wave.sampling.num_samples and _num_accepted(attempts) < wave.num_accepted:
        if allowance.is_spent:
            break
        num_samples = min(wave.sampling.wave_size, wave.sampling.num_samples - len(attempts))
        first_index = len(attempts)
        seed = stable_seed(wave.run_seed, wave.problem.problem_id, wave.stage, str(first_index))
        sampling = Sampling(
            num_samples=num_samples,
            temperature=wave.sampling.temperature,
            top_p=wave.sampling.top_p,
            max_tokens=wave.sampling.max_tokens,
            seed=seed,
        )
        completions = await policy.generate(wave.prompt_ids, sampling)
        allowance.spend(sum(len(completion.token_ids) for completion in completions))
        rollouts = [
            Rollout(
                stage=wave.stage,
                sample_index=first_index + i,
                seed=seed + i,
                prompt_hash=prompt_hash,
                completion=completion,
            )
            for i, completion in enumerate(completions)
        ]
        attempts += await asyncio.gather(*(examine(rollout, wave, verifier) for rollout in rollouts))
    return attempts


async def examine(rollout: Rollout, wave: Wave, verifier: Verifier) -> Attempt:
    """The verdict on one rollout, and whether it is refused; right guided ones get the step check."""
    completion = rollout.completion
    verdict = await verifier.judge(
        wave.problem, completion.text, is_truncated=completion.finish_reason != "stop"
    )
    if not verdict.is_correct:
        return Attempt(rollout=rollout, verdict=verdict)
    refusal = refusal_of(completion.text, completion.token_ids, wave.refusals, is_guided=wave.is_guided)
    steps = None
    if wave.is_guided and wave.problem.kind in MATH_KINDS:
        steps = await verifier.judge(replace(wave.problem, kind="steps"), completion.text)
        if wave.require_steps and steps.outcome is Outcome.WRONG:
            refusal = refusal or "its equations do not hold"
    return Attempt(rollout=rollout, verdict=verdict, refusal=refusal, steps=steps)


def _num_accepted(attempts: Sequence[Attempt]) -> int:
    return len({attempt.rollout.completion.token_ids for attempt in attempts if attempt.is_accepted})


def hash_ids(token_ids: Sequence[int]) -> str:
    return hashlib.blake2b(",".join(map(str, token_ids)).encode(), digest_size=8).hexdigest()
