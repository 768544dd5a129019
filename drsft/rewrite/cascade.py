"""The cascade for one problem: self-alignment, then guided re-solving, then the expert's own text.

"Mind the Gap: Data Rewriting" (arXiv 2509.15157), section 3. One function serves the batch job and the
endpoint. Samples come in waves, and the first wave with an accepted sample ends its stage.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from drsft.config import Rewrite, SamplingStage
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.records import Attempt, Completion, Problem, Record, Rollout, Sampling, Source, stable_seed
from drsft.rewrite.selection import choose
from drsft.verify.protocol import Verifier

__all__ = ["Recipe", "rewrite_one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything about a rewriting that is the same for all problems."""

    rewrite: Rewrite
    prompter: Prompter
    run_seed: int
    max_model_len: int


async def rewrite_one(problem: Problem, policy: Policy, verifier: Verifier, recipe: Recipe) -> Record:
    """The record of one problem: what is trained on from now on, with every attempt that led to it."""
    prompter = recipe.prompter
    plain_ids = prompter.plain(problem)
    attempts: list[Attempt] = []

    async def attempt_stage(name: str, prompt_ids: Sequence[int], stage: SamplingStage) -> Completion | None:
        tried = await _sample_until_accepted(name, problem, prompt_ids, stage, policy, verifier, recipe)
        attempts.extend(tried)
        accepted = [attempt for attempt in tried if attempt.verdict.is_correct]
        return choose(accepted, problem.problem_id, recipe.run_seed).rollout.completion if accepted else None

    source = Source.OWN
    kept = await attempt_stage("self_align", plain_ids, recipe.rewrite.self_align)
    if kept is None:
        source = Source.REWRITTEN
        kept = await attempt_stage("guided", prompter.guided(problem), recipe.rewrite.guided)
    expert_ids = prompter.completion(problem.demonstration)
    return Record(
        problem=problem,
        source=source if kept else Source.EXPERT,
        prompt_ids=plain_ids,
        completion_ids=kept.token_ids if kept else expert_ids,
        text=kept.text if kept else problem.demonstration,
        behaviour_logprobs_T=kept.behaviour_logprobs_T if kept else None,
        attempts=tuple(attempts),
        expert_completion_ids=expert_ids,
    )


async def _sample_until_accepted(
    name: str,
    problem: Problem,
    prompt_ids: Sequence[int],
    stage: SamplingStage,
    policy: Policy,
    verifier: Verifier,
    recipe: Recipe,
) -> list[Attempt]:
    """Wave after wave until one sample is accepted or `stage.num_samples` were drawn."""
    attempts: list[Attempt] = []
    if len(prompt_ids) >= recipe.max_model_len:
        return attempts  # a long demonstration can make the guided prompt too long for the model
    prompt_hash = _hash_ids(prompt_ids)
    while len(attempts) < stage.num_samples and not any(attempt.verdict.is_correct for attempt in attempts):
        num_samples = min(stage.wave_size, stage.num_samples - len(attempts))
        seed = stable_seed(recipe.run_seed, problem.problem_id, name, str(len(attempts)))
        sampling = Sampling(
            num_samples=num_samples,
            temperature=stage.temperature,
            top_p=stage.top_p,
            max_tokens=stage.max_tokens,
            seed=seed,
        )
        completions = await policy.generate(prompt_ids, sampling)
        verdicts = await asyncio.gather(
            *(
                verifier.judge(problem, completion.text, is_truncated=completion.finish_reason != "stop")
                for completion in completions
            )
        )
        first_index = len(attempts)
        for i, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True)):
            rollout = Rollout(
                stage=name,
                sample_index=first_index + i,
                seed=seed + i,
                prompt_hash=prompt_hash,
                completion=completion,
            )
            attempts.append(Attempt(rollout=rollout, verdict=verdict))
    return attempts


def _hash_ids(token_ids: Sequence[int]) -> str:
    return hashlib.blake2b(",".join(map(str, token_ids)).encode(), digest_size=8).hexdigest()
