"""The cascade for one problem: alone, with guidance or a hint, by a teacher, and last the expert's text.

"Mind the Gap: Data Rewriting" (arXiv 2509.15157), section 3; teachers and the other options are drsft's. One
function serves the batch job and the endpoint. A stage begins only when the one before it gave nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drsft.config import Analysis, Hint, Rewrite, SamplingPhase, Teacher
from drsft.policy.prompts import Prompter, chat_messages, user_turn
from drsft.policy.protocol import Policy, Scorer
from drsft.policy.teacher import Teachers, TeacherText
from drsft.process.tracing import span
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Record,
    Rejection,
    RejectionKind,
    Rollout,
    Source,
    Verdict,
    stable_seed,
)
from drsft.rewrite.budget import Allowance, Place, ProblemAllowance
from drsft.rewrite.contradiction import contradicts
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.hinted import BesidePlain, Hinting, analyse, opened_turn
from drsft.rewrite.sampling import Wave, examine, sample_in_waves
from drsft.rewrite.selection import choose, distinct
from drsft.verify.protocol import Verifier

__all__ = ["Recipe", "guide_of", "guided_prompt", "rewrite_one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything about a rewriting that is the same for all problems."""

    rewrite: Rewrite
    prompter: Prompter
    run_seed: int
    max_model_len: int
    teachers: Teachers | None = None
    hinting: Hinting | None = None  # where rewrite.method asks for it


async def rewrite_one(
    problem: Problem,
    policy: Policy,
    verifier: Verifier,
    recipe: Recipe,
    *,
    allowance: Allowance | None = None,
    place: Place | None = None,
    scorer: Scorer | None = None,
    events: CascadeEvents = NO_EVENTS,
) -> Record:
    """The record of one problem: what is trained on from now on, with every attempt that led to it.

    `allowance` is the shard's, and `place` is given up while the problem waits for it; the problem's own
    limit comes from the recipe. `events` listens to what happens. The selection "closest" needs a `scorer` of
    the target (ValueError without); nothing else asks it.
    """
    if recipe.rewrite.selection == "closest" and scorer is None:
        raise ValueError('the selection "closest" needs a scorer')
    if recipe.rewrite.is_hinted and recipe.hinting is None:
        raise ValueError(f'the method "{recipe.rewrite.method}" needs a hinting in the recipe')
    own_allowance = ProblemAllowance(recipe.rewrite.tokens_per_problem, allowance, place)
    cascade = _Cascade(problem, policy, verifier, recipe, own_allowance, scorer, events)
    with span("verify", of="expert"):
        expert_verdict = await verifier.judge(problem, problem.demonstration)
    source, kept = await cascade.run(expert_verdict)
    expert_ids = recipe.prompter.completion(problem.demonstration)
    if kept:
        first, *others = kept
    elif recipe.rewrite.fallback == "expert":
        source, others = Source.EXPERT, []
        first = _unsampled(problem.demonstration, expert_ids)
    else:
        source, others = Source.DROPPED, []
        first = _unsampled("", ())
    record = Record(
        problem=problem,
        source=source,
        prompt_ids=cascade.plain_ids,
        completion_ids=first.token_ids,
        text=first.text,
        behaviour_logprobs_T=first.behaviour_logprobs_T,
        attempts=tuple(cascade.attempts),
        expert_completion_ids=expert_ids,
        expert_verdict=expert_verdict,
        also_kept=tuple(others),
    )
    events.record_made(record)
    return record


class _Cascade:
    """One problem on its way; `attempts` grows with every sample."""

    def __init__(
        self,
        problem: Problem,
        policy: Policy,
        verifier: Verifier,
        recipe: Recipe,
        allowance: ProblemAllowance,
        scorer: Scorer | None,
        events: CascadeEvents,
    ) -> None:
        self.scorer, self.allowance, self.events = scorer, allowance, events
        self.problem, self.policy, self.verifier, self.recipe = problem, policy, verifier, recipe
        self.plain_ids = recipe.prompter.plain(problem)
        self.attempts: list[Attempt] = []

    async def run(self, expert_verdict: Verdict) -> tuple[Source, list[Completion]]:
        """The source that gave something, and what is kept of it; nothing kept when all stages failed."""
        recipe = self.recipe
        kept = await self._sample(Phase.SELF_ALIGN, self.plain_ids, recipe.rewrite.self_align)
        if kept:
            return Source.OWN, kept
        guide = self._guide(expert_verdict)
        found = await self._helped(guide)
        if recipe.rewrite.hinted_beside and recipe.hinting is not None and guide is not None:
            await self._hinted(recipe.hinting, guide)  # stands among the attempts, for a data view of its own
        return found

    def _guide(self, expert_verdict: Verdict) -> str | None:
        """What is shown to the target; None where it would guide towards a wrong answer."""
        hint = self.recipe.rewrite.guided.hint
        if hint != "answer" and contradicts(self.problem, expert_verdict):
            return None
        return guide_of(self.problem, hint)

    async def _helped(self, guide: str | None) -> tuple[Source, list[Completion]]:
        recipe = self.recipe
        if guide is not None:
            if recipe.rewrite.is_guided and (kept := await self._guided(Phase.GUIDED, guide)):
                return Source.REWRITTEN, kept
            hinting = None if recipe.rewrite.hinted_beside else recipe.hinting
            if hinting is not None and (kept := await self._hinted(hinting, guide)):
                return Source.HINTED, kept
        if recipe.teachers is not None:
            return await self._taught(recipe.teachers)
        return Source.EXPERT, []

    async def _taught(self, teachers: Teachers) -> tuple[Source, list[Completion]]:
        """A teacher's verified solution, kept as it is or shown to the target."""
        teacher = teachers.pick(self.problem, self.recipe.run_seed)
        if teacher.use == "guide" and self.allowance.is_spent:
            return Source.EXPERT, []  # its answer is paid for, and nothing could be sampled with it
        seed = stable_seed(self.recipe.run_seed, self.problem.problem_id, "teacher_samples")
        prompts = self.recipe.prompter.prompts
        messages = chat_messages(prompts.system, user_turn(prompts.plain, self.problem))
        self.events.phase_begun(Phase.TEACHER)
        for index in range(teacher.num_samples):
            self.events.sample_begun(Phase.TEACHER, index)
        with span(Phase.TEACHER.value, model=teacher.model):
            solutions = await teachers.solve(teacher, messages, seed=seed)
            for index in range(len(solutions)):
                self.events.sample_ended(Phase.TEACHER, index)
            attempts = []
            for index, solution in enumerate(solutions):
                attempt = await self._teachers(solution, index, teacher)
                self.events.attempt_judged(attempt)
                attempts.append(attempt)
            kept = await self._keep(attempts)
        if not kept or teacher.use == "direct":
            return Source.TEACHER, kept
        return Source.REWRITTEN, await self._guided(Phase.TEACHER_GUIDED, kept[0].text)

    async def _teachers(self, solution: TeacherText, index: int, teacher: Teacher) -> Attempt:
        """A teacher's solution, judged; one that it failed to give is unjudged and says why."""
        token_ids = () if solution.failure else self.recipe.prompter.completion(solution.text)
        rollout = Rollout(
            phase=Phase.TEACHER,
            sample_index=index,
            seed=solution.seed,
            prompt_hash="",
            completion=_unsampled(solution.text, token_ids, solution.finish_reason),
            policy=teacher.model,
        )
        if solution.failure:
            return Attempt(
                rollout=rollout, verdict=Verdict(outcome=Outcome.UNJUDGED, reason=solution.failure)
            )
        attempt = await examine(
            rollout, self._wave(Phase.TEACHER, (), self.recipe.rewrite.guided), self.verifier
        )
        is_too_long = len(self.plain_ids) + len(token_ids) > self.recipe.max_model_len
        if attempt.is_accepted and teacher.use == "direct" and is_too_long:
            return replace(attempt, rejection=Rejection(RejectionKind.TOO_LONG))
        return attempt

    async def _hinted(self, hinting: Hinting, guide: str) -> list[Completion]:
        """Decoded from the plain prompt and a hinted one at once, behind the target's own analysis."""
        prompt_ids = hinting.prompter.guided(replace(self.problem, demonstration=guide))
        settings = hinting.settings
        if settings.num_samples == 0 or len(prompt_ids) >= self.recipe.max_model_len:
            return []
        if settings.analysis is not None:
            turn = await self._analysed(prompt_ids, settings.analysis)
            if turn is None:
                return []
            prompt_ids = hinting.prompter.continued(prompt_ids, turn)
        beside = BesidePlain(hinting.decoder, self.plain_ids, settings.mixing)
        return await self._sample(Phase.HINTED, prompt_ids, settings, beside)

    async def _analysed(self, prompt_ids: tuple[int, ...], settings: Analysis) -> str | None:
        """The target's analysis as the beginning of its turn; None where it is of no use."""
        async with self.allowance.hold(1, max_tokens=settings.max_tokens) as may_sample:
            if not may_sample:
                return None
            self.events.phase_begun(Phase.ANALYSIS)
            self.events.sample_begun(Phase.ANALYSIS, 0)
            with span(Phase.ANALYSIS.value):
                attempt = await analyse(
                    self.problem, self.policy, prompt_ids, settings, run_seed=self.recipe.run_seed
                )
            self.attempts.append(attempt)
            completion = attempt.rollout.completion
            self.allowance.spend(len(completion.token_ids))
            self.events.sample_ended(Phase.ANALYSIS, 0)
            self.events.attempt_judged(attempt)
        return opened_turn(completion.text, settings)

    async def _guided(self, phase: Phase, guide: str) -> list[Completion]:
        guided = self.recipe.rewrite.guided
        # A teacher's solution is one to lean on, whatever is made of the expert's.
        hint = guided.hint if phase is Phase.GUIDED else "demonstration"
        prompt_ids = guided_prompt(self.problem, guide, hint, self.recipe.prompter)
        return await self._sample(phase, prompt_ids, guided)

    async def _sample(
        self,
        phase: Phase,
        prompt_ids: tuple[int, ...],
        sampling: SamplingPhase,
        policy: Policy | None = None,
    ) -> list[Completion]:
        if len(prompt_ids) >= self.recipe.max_model_len:
            return []  # a long guide can make the prompt too long for the model
        wave = self._wave(phase, prompt_ids, sampling)
        with span(phase.value) as opened:
            attempts = await sample_in_waves(
                wave, policy or self.policy, self.verifier, self.allowance, self.events
            )
            opened.set_attribute("samples", len(attempts))
            return await self._keep(attempts)

    def _wave(self, phase: Phase, prompt_ids: tuple[int, ...], sampling: SamplingPhase) -> Wave:
        rewrite = self.recipe.rewrite
        is_own = phase is Phase.SELF_ALIGN
        return Wave(
            phase=phase,
            problem=self.problem,
            prompt_ids=prompt_ids,
            sampling=sampling,
            num_accepted=rewrite.num_accepted,
            run_seed=self.recipe.run_seed,
            rejections=rewrite.refusals,
            sees_guide=not is_own and phase is not Phase.TEACHER,
            checks_steps=not is_own,
            require_steps=not is_own and rewrite.guided.require_steps,
            selection=rewrite.selection,
            stop_beaten=rewrite.stop_beaten,
        )

    async def _keep(self, attempts: Sequence[Attempt]) -> list[Completion]:
        attempts = await self._scored(attempts)
        self.attempts += attempts
        rewrite = self.recipe.rewrite
        chosen = choose(
            [attempt for attempt in attempts if attempt.is_accepted],
            rewrite.selection,
            rewrite.num_accepted,
            problem_id=self.problem.problem_id,
            run_seed=self.recipe.run_seed,
        )
        return [attempt.rollout.completion for attempt in chosen]

    async def _scored(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """With `mean_phi` where there is a choice to be made by it."""
        accepted = distinct([attempt for attempt in attempts if attempt.is_accepted])
        if self.scorer is None or self.recipe.rewrite.selection != "closest" or len(accepted) < 2:
            return attempts
        completions = [attempt.rollout.completion.token_ids for attempt in accepted]
        phis = await self.scorer.mean_phi(self.plain_ids, completions)
        # Beyond four digits a score depends on what else was in its batch, and a choice must not.
        found = {ids: round(phi, 4) for ids, phi in zip(completions, phis, strict=True)}
        return [replace(one, mean_phi=found.get(one.rollout.completion.token_ids)) for one in attempts]


def guide_of(problem: Problem, hint: Hint) -> str:
    return problem.reference if hint == "answer" else problem.demonstration


def guided_prompt(problem: Problem, guide: str, hint: Hint, prompter: Prompter) -> tuple[int, ...]:
    """With the guide in view, in the words that go with what it is."""
    shown = replace(problem, demonstration=guide)
    match hint:
        case "answer":
            return prompter.answered(shown)
        case "rephrase":
            return prompter.rephrased(shown)
        case "demonstration":
            return prompter.guided(shown)


def _unsampled(
    text: str, token_ids: tuple[int, ...], finish_reason: FinishReason = FinishReason.STOP
) -> Completion:
    """A text that the target did not sample: its behaviour log-probs are not known."""
    return Completion(token_ids=token_ids, text=text, behaviour_logprobs_T=None, finish_reason=finish_reason)
