"""Runs the cascade for one problem: alone, with guidance or a hint, by a teacher, and last the expert's text.

It follows section 3 of "Mind the Gap: Data Rewriting" (arXiv 2509.15157); teachers and the other options are
drsft's. The batch job and the service call the same function. A phase begins only when the previous one gave
no accepted text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from drsft.config import Analysis, Hint, Rewrite, SamplingPhase, Teacher
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy, Scorer, ScoringPolicy
from drsft.policy.teacher import OpenAITeachers, Teachers
from drsft.process.tracing import span
from drsft.records import Attempt, Completion, FinishReason, Phase, Problem, Record, Source, Verdict
from drsft.rewrite.budget import ProblemBudget, ProblemSlot, TokenBudget
from drsft.rewrite.contradiction import contradicts
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.grounding import GroundingCheck
from drsft.rewrite.hinted import HintedPolicy, HintedSetup, analyse, hinted_problem, opened_turn
from drsft.rewrite.judging import AcceptanceRules
from drsft.rewrite.sampling import PhasePlan, sample_in_waves
from drsft.rewrite.selection import choose, distinct
from drsft.rewrite.teacher_phase import TeacherPhase
from drsft.verify.protocol import Verifier

__all__ = ["Recipe", "guide_of", "guided_prompt", "rewrite_one", "unsampled_record"]

_NOTHING = Completion(token_ids=(), text="", behaviour_logprobs_T=None, finish_reason=FinishReason.STOP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of rewriting that are the same for all problems."""

    rewrite: Rewrite
    prompter: Prompter
    run_seed: int
    max_model_len: int  # tokens of prompt and completion
    teachers: Teachers | None = None
    hinted: HintedSetup | None = None  # where the settings ask for Hinted Decoding

    @classmethod
    def of(
        cls,
        rewrite: Rewrite,
        prompter: Prompter,
        *,
        run_seed: int,
        max_model_len: int,
        decoder: HintedDecoder | None,
    ) -> "Recipe":
        """Returns the recipe of a configuration; `decoder` is needed for Hinted Decoding only."""
        return cls(
            rewrite=rewrite,
            prompter=prompter,
            run_seed=run_seed,
            max_model_len=max_model_len,
            teachers=OpenAITeachers(rewrite.teachers) if rewrite.teachers else None,
            hinted=HintedSetup.of(rewrite.hinted, prompter, decoder) if decoder else None,
        )


async def rewrite_one(
    problem: Problem,
    policy: Policy,
    verifier: Verifier,
    recipe: Recipe,
    *,
    budget: TokenBudget | None = None,
    slot: ProblemSlot | None = None,
    scorer: Scorer | None = None,
    events: CascadeEvents = NO_EVENTS,
) -> Record:
    """Returns the record of one problem: the text to train on, with the attempts that led to it.

    `budget` is the shard's token budget; the problem's own limit is in the recipe. While the problem waits
    for the budget, it gives up `slot`, its place among the problems in flight. `events` is notified of every
    step. Raises ValueError if something that the recipe needs is missing: `scorer` for the selection
    "closest", a hinted setup in the recipe, or a policy that scores texts for the grounding check.
    """
    if recipe.rewrite.selection == "closest" and scorer is None:
        raise ValueError('the selection "closest" needs a scorer')
    if recipe.rewrite.is_hinted and recipe.hinted is None:
        raise ValueError(
            f'rewrite.method is "{recipe.rewrite.method}", which needs Recipe.hinted; '
            "give a decoder to Recipe.of"
        )
    if recipe.rewrite.grounding is not None and not isinstance(policy, ScoringPolicy):
        raise ValueError("rewrite.grounding needs a policy that scores texts; set it to null")
    plain_ids = recipe.prompter.plain(problem)
    cascade = _Cascade(
        problem=problem,
        policy=policy,
        verifier=verifier,
        recipe=recipe,
        plain_ids=plain_ids,
        grounding_check=(
            GroundingCheck(problem, plain_ids, policy, recipe.prompter)
            if isinstance(policy, ScoringPolicy)
            else None
        ),
        budget=ProblemBudget(recipe.rewrite.tokens_per_problem, budget, slot),
        scorer=scorer,
        events=events,
    )
    record = await cascade.record()
    events.record_made(record)
    return record


def unsampled_record(problem: Problem, recipe: Recipe) -> Record:
    """Returns a DROPPED record, without attempts, for a problem that is set aside; it is not trained on."""
    return Record(
        problem=problem,
        source=Source.DROPPED,
        prompt_ids=recipe.prompter.plain(problem),
        completion_ids=_NOTHING.token_ids,
        text=_NOTHING.text,
        behaviour_logprobs_T=None,
        expert_completion_ids=recipe.prompter.solution(problem.demonstration).token_ids,
    )


@dataclass(slots=True, kw_only=True)
class _Cascade:
    """The state of one problem in the cascade; `attempts` grows with every sample."""

    problem: Problem
    policy: Policy
    verifier: Verifier
    recipe: Recipe
    plain_ids: tuple[int, ...]
    budget: ProblemBudget
    scorer: Scorer | None
    grounding_check: GroundingCheck | None
    events: CascadeEvents
    attempts: list[Attempt] = field(default_factory=list)

    async def record(self) -> Record:
        """Runs all phases that are needed and returns the record, with the fallback where nothing is kept."""
        problem = self.problem
        with span("verify", of="expert"):
            expert_verdict = await self.verifier.judge(problem, problem.demonstration)
        source, kept = await self._run(expert_verdict)
        expert = self.recipe.prompter.solution(problem.demonstration)
        if not kept and self.recipe.rewrite.fallback == "expert":
            source, kept = Source.EXPERT, [expert]
        elif not kept:
            source, kept = Source.DROPPED, [_NOTHING]
        first, *others = kept
        return Record(
            problem=problem,
            source=source,
            prompt_ids=self.plain_ids,
            completion_ids=first.token_ids,
            text=first.text,
            behaviour_logprobs_T=first.behaviour_logprobs_T,
            attempts=tuple(self.attempts),
            expert_completion_ids=expert.token_ids,
            expert_verdict=expert_verdict,
            further_completions=tuple(others),
            thought=first.thought,
        )

    async def _run(self, expert_verdict: Verdict) -> tuple[Source, list[Completion]]:
        """Returns the source that gave a text, and the kept texts; none when all phases failed."""
        recipe = self.recipe
        kept = await self._sample(Phase.SELF_ALIGN, self.plain_ids, recipe.rewrite.self_align)
        if kept:
            return Source.OWN, kept
        guide = self._guide(expert_verdict)
        found = await self._with_help(guide)
        if recipe.rewrite.hinted_beside and recipe.hinted is not None and guide is not None:
            await self._hinted(recipe.hinted, guide)  # only recorded among the attempts, for the hinted arms
        return found

    def _guide(self, expert_verdict: Verdict) -> str | None:
        """Returns the text shown to the target as a guide; None if it would lead to a wrong answer."""
        hint = self.recipe.rewrite.guided.hint
        if hint != "answer" and contradicts(self.problem, expert_verdict):
            return None
        return guide_of(self.problem, hint)

    async def _with_help(self, guide: str | None) -> tuple[Source, list[Completion]]:
        recipe = self.recipe
        if guide is not None:
            if recipe.rewrite.is_guided and (kept := await self._guided(Phase.GUIDED, guide)):
                return Source.REWRITTEN, kept
            setup = None if recipe.rewrite.hinted_beside else recipe.hinted
            if setup is not None and (kept := await self._hinted(setup, guide)):
                return Source.HINTED, kept
        if recipe.teachers is not None:
            return await self._with_teacher(recipe.teachers)
        return Source.EXPERT, []

    async def _with_teacher(self, teachers: Teachers) -> tuple[Source, list[Completion]]:
        """Returns a teacher's verified solution, or the target's solution with the teacher's text as
        a guide.
        """
        recipe = self.recipe
        teacher = teachers.pick(self.problem, recipe.run_seed)
        if teacher.use == "guide" and self.budget.is_spent:
            return (
                Source.EXPERT,
                [],
            )  # a teacher costs money, and its text could not be used
        with span(Phase.TEACHER.value, model=teacher.model):
            phase = TeacherPhase(
                problem=self.problem,
                teachers=teachers,
                teacher=teacher,
                prompter=recipe.prompter,
                verifier=self.verifier,
                rules=self._teacher_rules(teacher),
                grounding_check=self.grounding_check,
                events=self.events,
                run_seed=recipe.run_seed,
                max_kept_tokens=recipe.max_model_len - len(self.plain_ids),
            )
            kept = await self._select(await phase.attempts())
        if not kept or teacher.use == "direct":
            return Source.TEACHER, kept
        return Source.REWRITTEN, await self._guided(Phase.TEACHER_GUIDED, kept[0].text)

    def _teacher_rules(self, teacher: Teacher) -> AcceptanceRules:
        """Returns the rules for a teacher's text, which needs no grounding if it is only shown to the
        target.
        """
        rules = AcceptanceRules.of(self.recipe.rewrite, Phase.TEACHER)
        return rules if teacher.use == "direct" else replace(rules, grounding=None)

    async def _hinted(self, setup: HintedSetup, guide: str) -> list[Completion]:
        """Returns kept completions of Hinted Decoding: the target's analysis, then both prompts decoded
        together.
        """
        settings = setup.settings
        shown = replace(self.problem, demonstration=guide)
        prompt_ids = setup.prompter.guided(hinted_problem(shown, settings))
        if settings.num_samples == 0 or len(prompt_ids) >= self.recipe.max_model_len:
            return []
        if settings.analysis is not None:
            turn = await self._analysis(prompt_ids, settings.analysis)
            if turn is None:
                return []
            prompt_ids = setup.prompter.continued(prompt_ids, turn)
        policy = HintedPolicy(setup.decoder, self.plain_ids, settings.mixing)
        return await self._sample(Phase.HINTED, prompt_ids, settings, policy)

    async def _analysis(self, prompt_ids: tuple[int, ...], settings: Analysis) -> str | None:
        """Returns the target's analysis as the beginning of its turn; None if it is unusable."""
        async with self.budget.reserve(1, max_tokens=settings.max_tokens) as may_sample:
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
            self.budget.spend(len(completion.token_ids))
            self.events.sample_ended(Phase.ANALYSIS, 0)
            self.events.attempt_judged(attempt)
        return opened_turn(completion.text, settings)

    async def _guided(self, phase: Phase, guide: str) -> list[Completion]:
        guided = self.recipe.rewrite.guided
        # A teacher's solution is always shown as a demonstration, whatever the hint of the expert's is.
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
        plan = self._plan(phase, prompt_ids, sampling)
        with span(phase.value) as opened:
            attempts = await sample_in_waves(
                plan, policy or self.policy, self.verifier, self.budget, self.events
            )
            opened.set_attribute("samples", len(attempts))
            return await self._select(attempts)

    def _plan(self, phase: Phase, prompt_ids: tuple[int, ...], sampling: SamplingPhase) -> PhasePlan:
        rewrite = self.recipe.rewrite
        return PhasePlan(
            phase=phase,
            problem=self.problem,
            prompt_ids=prompt_ids,
            sampling=sampling,
            num_accepted=rewrite.num_accepted,
            run_seed=self.recipe.run_seed,
            rules=AcceptanceRules.of(rewrite, phase),
            selection=rewrite.selection,
            stop_beaten=rewrite.stop_beaten,
            grounding_check=self.grounding_check,
        )

    async def _select(self, attempts: Sequence[Attempt]) -> list[Completion]:
        """Records the attempts of a phase and returns the completions that are kept."""
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
        """Returns the attempts, with `mean_phi` if it decides which of several is kept."""
        accepted = distinct([attempt for attempt in attempts if attempt.is_accepted])
        if self.scorer is None or self.recipe.rewrite.selection != "closest" or len(accepted) < 2:
            return attempts
        completions = [attempt.rollout.completion.token_ids for attempt in accepted]
        phis = await self.scorer.mean_phi(self.plain_ids, completions)
        # Beyond four digits a score depends on its batch, and a choice must not depend on that.
        found = {ids: round(phi, 4) for ids, phi in zip(completions, phis, strict=True)}
        return [replace(one, mean_phi=found.get(one.rollout.completion.token_ids)) for one in attempts]


def guide_of(problem: Problem, hint: Hint) -> str:
    return problem.reference if hint == "answer" else problem.demonstration


def guided_prompt(problem: Problem, guide: str, hint: Hint, prompter: Prompter) -> tuple[int, ...]:
    """Returns the token ids of the prompt that shows the problem with `guide`.

    `hint` says what the guide is (a solution, a solution to rephrase, or an answer) and chooses the template.
    """
    shown = replace(problem, demonstration=guide)
    match hint:
        case "answer":
            return prompter.answered(shown)
        case "rephrase":
            return prompter.rephrased(shown)
        case "demonstration":
            return prompter.guided(shown)
