"""Runs Hinted Decoding in the cascade: the analysis, the two contexts, and the decoder as a policy.

arXiv 2602.12222. In the analysis (the paper's stage 0) the target explains the expert's solution to itself;
the hinted context continues from that text. The completions are verified like any sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drsft.config import Analysis, Hinted, Mixing, Prompts
from drsft.policy.hinted.protocol import Contexts, HintedDecoder
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import OnTokens, Policy
from drsft.records import (
    Attempt,
    Completion,
    Message,
    Outcome,
    Phase,
    Problem,
    Rollout,
    Sampling,
    Verdict,
    stable_seed,
)
from drsft.rewrite.sampling import hash_ids

__all__ = ["HintedPolicy", "HintedSetup", "analyse", "hinted_problem", "hinted_prompter", "opened_turn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HintedSetup:
    """The decoder of Hinted Decoding, its settings, and the prompter of the hinted contexts."""

    decoder: HintedDecoder
    prompter: Prompter
    settings: Hinted

    @classmethod
    def of(cls, settings: Hinted, prompter: Prompter, decoder: HintedDecoder) -> "HintedSetup":
        """Returns the set-up for the configured settings; hinted contexts get the target's `prompter` with a
        system turn of their own.
        """
        return cls(decoder=decoder, prompter=hinted_prompter(settings, prompter), settings=settings)


def hinted_prompter(settings: Hinted, prompter: Prompter) -> Prompter:
    """Returns the prompter of hinted contexts, with their own system turn.

    Raises ModelError if the template takes no system turn.
    """
    prompts = Prompts(system=settings.system, plain=prompter.prompts.plain, guided=settings.prompt)
    return prompter.under(prompts, system_key="rewrite.hinted.system")


def hinted_problem(problem: Problem, settings: Hinted) -> Problem:
    """Returns the problem as the hinted prompt shows it.

    If the problem's conversation begins with a system turn, `settings.system` is put before its text;
    otherwise the problem is returned unchanged.
    """
    first, *others = problem.earlier or (None,)
    if first is None or first.role != "system" or not settings.system:
        return problem
    system = Message(role="system", content=f"{settings.system}\n\n{first.content}")
    return replace(problem, earlier=(system, *others))


@dataclass(frozen=True, slots=True)
class HintedPolicy:
    """A Policy for Hinted Decoding: `generate` gets the hinted prompt.

    Each completion is decoded from the hinted prompt and from `plain_ids`, the plain prompt, together.
    """

    decoder: HintedDecoder
    plain_ids: tuple[int, ...]
    mixing: Mixing

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        contexts = Contexts(hinted_ids=tuple(prompt_ids), plain_ids=self.plain_ids)
        return list(await self.decoder.decode(contexts, self.mixing, sampling))


async def analyse(
    problem: Problem, policy: Policy, prompt_ids: tuple[int, ...], analysis: Analysis, *, run_seed: int
) -> Attempt:
    """Samples the target's analysis, which is its greedy answer to the hinted prompt.

    Hinted Decoding then continues from this text. The returned attempt has the outcome NO_ANSWER, so its text
    is never trained on.
    """
    seed = stable_seed(run_seed, problem.problem_id, Phase.ANALYSIS)
    sampling = Sampling(num_samples=1, temperature=0.0, max_tokens=analysis.max_tokens, seed=seed)
    completion = (await policy.generate(prompt_ids, sampling))[0]
    rollout = Rollout(
        phase=Phase.ANALYSIS,
        sample_index=0,
        seed=seed,
        prompt_hash=hash_ids(prompt_ids),
        completion=completion,
    )
    is_usable = opened_turn(completion.text, analysis) is not None
    reason = "an analysis, not a solution" if is_usable else f"an analysis without {analysis.marker!r}"
    return Attempt(rollout=rollout, verdict=Verdict(outcome=Outcome.NO_ANSWER, reason=reason))


def opened_turn(text: str, analysis: Analysis) -> str | None:
    """Returns the beginning of the assistant's turn: the analysis up to its last marker; None if it has no
    marker.
    """
    before, marker, _ = text.rpartition(analysis.marker)
    return before + marker if marker else None
