"""Runs a request through the batch job's cascade, independently of HTTP and Ray."""

import secrets
import time
from dataclasses import dataclass

from drsft.config import Rewrite
from drsft.errors import InputError, ModelError
from drsft.intake.messages import Conversation, UnusableConversation, read_conversation
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy, Scorer
from drsft.policy.turn.thoughts import split_text
from drsft.process.logs import about
from drsft.process.tracing import span
from drsft.records import (
    Attempt,
    GroundingScores,
    Problem,
    Record,
    Source,
    problem_id_of,
)
from drsft.rewrite.budget import TokenBudget
from drsft.rewrite.cascade import Recipe, guide_of, guided_prompt, rewrite_one
from drsft.verify.protocol import Verifier
from serve.api import (
    AttemptGrounding,
    AttemptSummary,
    RecipeOverrides,
    RewriteRequest,
    RewriteResult,
    Timings,
    TokenCounts,
)
from serve.limits.admission import estimated_tokens
from serve.request_events import Listener, RequestEvents
from serve.settings import ServeConfig

__all__ = ["Plan", "RewriteService", "Unacceptable"]


class Unacceptable(Exception):  # noqa: N818 - a response, not an error
    """A well-formed request exceeds a limit or asks for something not offered; change its `field`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request that passed all checks, with its problem, recipe and limits: what `rewrite` needs."""

    request: RewriteRequest
    problem: Problem
    recipe: Recipe
    num_prompt_tokens: int  # of the longest prompt that an engine may get
    estimated_tokens: int
    deadline_s: float

    def used_tokens(self, result: RewriteResult) -> int:
        """Returns the tokens that the result cost: the prompt, all samples, and what was scored for phi."""
        tokens = result.tokens
        num_scored = 0 if result.mean_phi is None else tokens.prompt + tokens.kept
        return self.num_prompt_tokens + tokens.sampled + num_scored


class RewriteService:
    def __init__(
        self,
        config: ServeConfig,
        prompter: Prompter,
        policy: Policy,
        verifier: Verifier,
        scorer: Scorer | None = None,
    ) -> None:
        self._config, self._prompter = config, prompter
        self._policy, self._verifier, self._scorer = policy, verifier, scorer

    def plan(self, request: RewriteRequest) -> Plan:
        """Returns the checked request. Raises Unacceptable if it exceeds a limit or asks for something not
        offered.
        """
        self._check(request)
        problem = self._problem(request)
        asked = "problem" if request.messages is None else "messages"
        recipe = Recipe(
            rewrite=self._rewrite(request, problem),
            prompter=self._prompter,
            run_seed=secrets.randbits(31) if request.seed is None else request.seed,
            max_model_len=self._config.target.max_model_len,
        )
        self._check_thought(request, problem)
        num_plain_tokens = self._num_plain_tokens(problem)
        if num_plain_tokens >= recipe.max_model_len:
            raise Unacceptable(
                asked,
                f"the prompt has {num_plain_tokens} tokens, which leaves no room for a solution: the model "
                f"takes {recipe.max_model_len} tokens in all",
            )
        num_prompt_tokens = max(num_plain_tokens, self._num_guided_tokens(problem, recipe))
        num_scored_tokens = self._num_scored_tokens(problem, recipe, num_plain_tokens) if request.phi else 0
        deadline_s = self._config.limits.deadline_s
        return Plan(
            request=request,
            problem=problem,
            recipe=recipe,
            num_prompt_tokens=num_prompt_tokens,
            estimated_tokens=estimated_tokens(num_prompt_tokens, recipe.rewrite) + num_scored_tokens,
            deadline_s=min(request.deadline_s or deadline_s, deadline_s),
        )

    async def rewrite(
        self, plan: Plan, *, request_id: str, listener: Listener | None = None, budget: TokenBudget
    ) -> RewriteResult:
        """Runs the cascade for a checked request and returns the result.

        `listener` is called with each event. `budget` counts the sampled tokens, so that they are known even
        if the request fails.
        """
        started_s = time.perf_counter()
        events = RequestEvents(self._prompter.decode, listener, part_stream=self._prompter.part_stream)
        with about(request=request_id, problem=plan.problem.problem_id), span("problem") as opened:
            record = await rewrite_one(
                plan.problem,
                self._policy,
                self._verifier,
                plan.recipe,
                budget=budget,
                scorer=self._scorer,
                events=events,
            )
            opened.set_attribute("source", record.source.value)
        mean_phi = await self._phi(record) if plan.request.phi else None
        total_s = time.perf_counter() - started_s
        return self._result(plan, record, events, request_id, total_s, mean_phi, budget.num_spent)

    def _problem(self, request: RewriteRequest) -> Problem:
        """Returns the requested problem. Raises Unacceptable if the messages are not a conversation."""
        asked, solution = self._conversation(request), request.expert_solution
        self._check_length("messages" if request.messages else "problem", _texts_of(asked))
        if solution is None:
            solution = asked.answer or ""
            self._check_length("messages", solution, self._config.limits.solution_chars)
        return Problem(
            problem_id=problem_id_of(asked.question, request.reference, asked.earlier),
            question=asked.question,
            demonstration=solution,
            reference=request.reference,
            kind=request.kind,
            earlier=asked.earlier,
        )

    def _conversation(self, request: RewriteRequest) -> Conversation:
        if request.messages is None:
            return Conversation(question=request.problem or "")
        turns = [turn.model_dump() for turn in request.messages]
        found = read_conversation(turns, keeps_thought=self._prompter.turn.thought is not None)
        if isinstance(found, UnusableConversation):
            raise Unacceptable("messages", f"{found.reason}: {found.detail}")
        return found

    def _num_plain_tokens(self, problem: Problem) -> int:
        """Returns the length of the plain prompt. Raises Unacceptable if the template rejects a turn."""
        try:
            return len(self._prompter.plain(problem))
        except (ModelError, InputError) as error:
            if not problem.earlier:
                raise
            raise Unacceptable("messages", str(error)) from error

    def _check_thought(self, request: RewriteRequest, problem: Problem) -> None:
        try:
            split_text(problem.demonstration.strip(), self._prompter.turn.thought)
        except InputError as error:
            field = "messages" if request.expert_solution is None else "expert_solution"
            raise Unacceptable(field, str(error)) from error

    def _check_length(self, field: str, text: str, limit: int | None = None) -> None:
        limit = self._config.limits.problem_chars if limit is None else limit
        if len(text) > limit:
            raise Unacceptable(field, f"the text has {len(text)} characters; at most {limit} are allowed")

    def _num_guided_tokens(self, problem: Problem, recipe: Recipe) -> int:
        """Returns the length of the guided prompt; 0 where it is never sent to an engine."""
        guided = recipe.rewrite.guided
        if not guided.num_samples:
            return 0
        guide = guide_of(problem, guided.hint)
        prompt_ids = guided_prompt(problem, guide, guided.hint, self._prompter)
        return len(prompt_ids) if len(prompt_ids) < recipe.max_model_len else 0

    def _num_scored_tokens(self, problem: Problem, recipe: Recipe, num_plain_tokens: int) -> int:
        """Returns the most tokens over which phi may be scored: the prompt and the longest text to keep.

        Raises Unacceptable if the expert's text may be kept but is too long for the model.
        """
        rewrite = recipe.rewrite
        num_kept = max(
            phase.max_tokens if phase.num_samples else 0 for phase in (rewrite.self_align, rewrite.guided)
        )
        if rewrite.fallback == "expert":
            num_expert = len(self._prompter.completion(problem.demonstration))
            if num_plain_tokens + num_expert > recipe.max_model_len:
                raise Unacceptable(
                    "expert_solution",
                    f"the problem and this solution have {num_plain_tokens + num_expert} tokens together; "
                    f"with phi, at most {recipe.max_model_len} are allowed",
                )
            num_kept = max(num_kept, num_expert)
        return num_plain_tokens + num_kept

    def _check(self, request: RewriteRequest) -> None:
        limits = self._config.limits
        self._check_length("reference", request.reference, limits.reference_chars)
        self._check_length("expert_solution", request.expert_solution or "", limits.solution_chars)
        if request.kind == "code" and not self._config.verify_code:
            raise Unacceptable("kind", "this service does not judge programs")
        if request.phi and self._scorer is None:
            raise Unacceptable("phi", "this service does not score phi; leave phi out")
        recipe = request.recipe
        for field in ("self_align_samples", "guided_samples"):
            if (getattr(recipe, field) or 0) > limits.num_samples:
                raise Unacceptable(f"recipe.{field}", f"at most {limits.num_samples} samples are allowed")
        most = max(self._config.rewrite.self_align.max_tokens, self._config.rewrite.guided.max_tokens)
        if (recipe.max_tokens or 0) > most:
            raise Unacceptable("recipe.max_tokens", f"at most {most} tokens are allowed")

    def _rewrite(self, request: RewriteRequest, problem: Problem) -> Rewrite:
        """Returns the service's recipe with the request's changes; without a guide, no guided phase."""
        given: RecipeOverrides = request.recipe
        base = self._config.rewrite
        shared = {
            name: value
            for name in ("temperature", "max_tokens")
            if (value := getattr(given, name)) is not None
        }
        hint = given.hint or base.guided.hint
        has_guide = hint == "answer" or bool(problem.demonstration)
        guided_samples = base.guided.num_samples if given.guided_samples is None else given.guided_samples
        own_samples = given.self_align_samples
        if own_samples is None:
            own_samples = base.self_align.num_samples
        fallback = given.fallback or base.fallback
        return base.model_copy(
            update={
                "self_align": base.self_align.model_copy(update={**shared, "num_samples": own_samples}),
                "guided": base.guided.model_copy(
                    update={**shared, "num_samples": guided_samples if has_guide else 0, "hint": hint}
                ),
                "fallback": fallback if problem.demonstration else "drop",
                "teachers": (),
            }
        )

    async def _phi(self, record: Record) -> float | None:
        if self._scorer is None or not record.completion_ids:
            return None
        [phi] = await self._scorer.mean_phi(record.prompt_ids, [record.completion_ids])
        return phi

    def _result(
        self,
        plan: Plan,
        record: Record,
        events: RequestEvents,
        request_id: str,
        total_s: float,
        mean_phi: float | None,
        num_sampled: int,
    ) -> RewriteResult:
        kept = record.kept_attempt
        verdict = kept.verdict if kept else record.expert_verdict if record.source is Source.EXPERT else None
        return RewriteResult(
            id=request_id,
            problem_id=record.problem.problem_id,
            source=record.source,
            solution=record.text or None,
            thought=record.thought.text or None if record.thought else None,
            answer=verdict.answer if verdict else None,
            outcome=verdict.outcome if verdict else None,
            reason=verdict.reason if verdict else "nothing was accepted, and there is no fallback",
            attempts=tuple(map(_summary, record.attempts)),
            tokens=TokenCounts(
                prompt=len(record.prompt_ids),
                sampled=num_sampled,
                kept=len(record.completion_ids),
                thought=record.thought.num_tokens if record.thought else 0,
            ),
            timings=Timings(
                total_s=round(total_s, 6),
                sampling_s=round(events.sampling_s, 6),
                verifying_s=round(events.verifying_s, 6),
            ),
            mean_phi=mean_phi,
            seed=plan.recipe.run_seed,
            model=self._config.target.model,
        )


def _texts_of(asked: Conversation) -> str:
    return "".join([*(turn.content for turn in asked.earlier), asked.question])


def _summary(attempt: Attempt) -> AttemptSummary:
    return AttemptSummary(
        stage=attempt.rollout.phase.value,
        sample_index=attempt.rollout.sample_index,
        outcome=attempt.verdict.outcome,
        reason=attempt.verdict.reason,
        refusal=None if attempt.rejection is None else str(attempt.rejection),
        tokens=len(attempt.rollout.completion.token_ids),
        finish_reason=attempt.rollout.completion.finish_reason.value,
        grounding=None if attempt.grounding is None else _grounding(attempt.grounding),
    )


def _grounding(scores: GroundingScores) -> AttemptGrounding:
    return AttemptGrounding(
        answer_logprob=scores.answer_logprob,
        mean_logprob=scores.mean_logprob,
        expert_mean_logprob=scores.expert_mean_logprob,
    )
