"""Rewrites shards of a run: reads the problems, runs the cascade on all of them at once, commits the records.

Nothing here depends on Ray: the job's actors use a ShardRewriter, and so do the benches.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from drsft.policy.hinted.protocol import PairCounts
from drsft.policy.protocol import Policy, Scorer
from drsft.process.logs import about
from drsft.process.memory import peak_rss_mib
from drsft.process.tracing import span
from drsft.records import Attempt, Outcome, Phase, Problem, QuarantinedRow, Record, RejectionKind
from drsft.rewrite.budget import ProblemSlot, TokenBudget
from drsft.rewrite.cascade import Recipe, rewrite_one, unsampled_record
from drsft.rewrite.contradiction import contradicts
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.shard_task import first_round_task, later_round_task
from drsft.run import layout
from drsft.run.shards import Commit, ShardSet
from drsft.run.summary import JudgedAs, ShardCounts, ShardSummary, Work
from drsft.run.tables import records_to_table
from drsft.storage import Store
from drsft.verify.protocol import Verifier

__all__ = ["ShardRewriter", "count_records"]

logger = logging.getLogger(__name__)


class ShardRewriter:
    """Rewrites shards of the run in `store` with one policy; several calls of `rewrite` may run at once.

    A shard is committed when its slowest problem is done. To keep the engine busy meanwhile,
    `problems_in_flight` limits the problems of all shards that are sampled at the same time: when a problem
    is done, or waits for its shard's token budget, a problem of a later shard can take its place.
    """

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        policy: Policy,
        verifier: Verifier,
        *,
        provenance: Mapping[str, str] | None = None,
        tokens_per_problem_of_run: float | None = None,
        problems_in_flight: int = 256,
        scorer: Scorer | None = None,
        events: CascadeEvents = NO_EVENTS,
        number: int = 1,
        before: Store | None = None,
        has_conversations: bool = False,
    ) -> None:
        """`number` is the round's number. A later round carries records over from `before`, the previous
        round's store.

        `events` is notified for all problems. With `has_conversations` all records have the column of earlier
        turns, so that a run's shards have one schema.
        """
        self._recipe, self._policy, self._verifier = recipe, policy, verifier
        self._shards = ShardSet(store, layout.RECORDS)
        self._provenance = dict(provenance or {})
        self._tokens_per_problem_of_run = tokens_per_problem_of_run
        self._slots = asyncio.Semaphore(problems_in_flight)
        self._scorer, self._events = scorer, events
        self._round = number
        self._has_conversations = has_conversations
        self._pairs_committed = PairCounts()
        self._read = first_round_task(store) if before is None else later_round_task(store, before)

    async def problems(self, shard: str) -> list[Problem]:
        """Returns the problems of a shard that this round rewrites, without those whose records it carries
        over.
        """
        return (await asyncio.to_thread(self._read, shard)).problems

    async def try_out(self, problems: Sequence[Problem]) -> None:
        """Samples the problems as rewriting does, but stores nothing.

        The caller thereby finds out whether one of the problems kills the engine.
        """
        budget = self._budget(len(problems))
        await asyncio.gather(*(self._rewrite_one(one, budget, NO_EVENTS) for one in problems))

    async def rewrite(self, shard: str, *, set_aside: Mapping[str, QuarantinedRow] = {}) -> Commit:
        """Rewrites and commits a shard, unless it is committed already; returns its commit.

        The problems in `set_aside`, by id, are not sampled, and their records are DROPPED. Two actors may
        rewrite the same shard, after one of them was restarted: the first commit counts.
        """
        with about(shard=shard):
            # The store may be slow; in a thread it does not hold up the other shards' samples.
            found = await asyncio.to_thread(self._shards.find, shard)
            return found or await self._rewrite(shard, set_aside)

    async def _rewrite(self, shard: str, set_aside: Mapping[str, QuarantinedRow]) -> Commit:
        started_at = time.time()
        task = await asyncio.to_thread(self._read, shard)
        problems = task.problems
        budget = self._budget(len(problems))
        records = await asyncio.gather(
            *(
                self._unsampled(problem)
                if problem.problem_id in set_aside
                else self._rewrite_one(problem, budget, self._events)
                for problem in problems
            )
        )
        kept = task.all_records(records, self._round)
        # Two of the counts depend on timing: tokens of stopped samples, and pairs that fell out of step.
        pairs = self._pairs_since_commit()
        counts = replace(
            count_records(records),
            kept=Counter(record.source for record in kept),
            num_carried_over=len(task.carried_over),
            num_tokens_saved=task.num_tokens_saved,
            num_stopped_tokens=budget.num_spent - sum(record.num_sampled_tokens for record in records),
            num_pairs=pairs.num_pairs,
            num_pairs_redone=pairs.num_redone,
            num_pairs_apart=pairs.num_apart,
        )
        summary = self._summary(counts, started_at, tuple(set_aside.values()))
        commit = await asyncio.to_thread(self._commit, shard, kept, summary)
        fields = {"problems": len(problems), "tokens": budget.num_spent, "seconds": time.time() - started_at}
        logger.info("shard committed", extra={"fields": fields})
        return commit

    def _budget(self, num_problems: int) -> TokenBudget:
        share = self._tokens_per_problem_of_run
        return TokenBudget(None if share is None else round(share * num_problems))

    def _summary(
        self, counts: ShardCounts, started_at: float, set_aside: tuple[QuarantinedRow, ...]
    ) -> ShardSummary:
        return ShardSummary(
            set_aside=set_aside,
            counts=counts,
            work=Work.since(started_at),
            cpu_s=time.process_time(),
            peak_rss_mib=peak_rss_mib(),
            provenance=self._provenance,
        )

    def _commit(self, shard: str, kept: Sequence[Record], summary: ShardSummary) -> Commit:
        marks_thoughts = self._recipe.prompter.turn.thought is not None
        table = records_to_table(
            kept,
            self._provenance,
            marks_thoughts=marks_thoughts,
            has_conversations=self._has_conversations,
            is_grounded=self._recipe.rewrite.grounding is not None,
        )
        return self._shards.commit(shard, table, summary.to_json())

    def _pairs_since_commit(self) -> PairCounts:
        """Returns the counts of Hinted Decoding's pairs since this actor's last commit, over all shards.

        The engine does not know which shard a pair belongs to; summed over an actor's commits, every pair
        counts once.
        """
        if self._recipe.hinted is None:
            return PairCounts()
        before, self._pairs_committed = self._pairs_committed, replace(self._recipe.hinted.decoder.counts)
        return self._pairs_committed - before

    async def _unsampled(self, problem: Problem) -> Record:
        record = unsampled_record(problem, self._recipe)
        self._events.record_made(record)
        return record

    async def _rewrite_one(self, problem: Problem, budget: TokenBudget, events: CascadeEvents) -> Record:
        async with ProblemSlot(self._slots) as slot:
            with about(problem=problem.problem_id), span("problem") as opened:
                record = await rewrite_one(
                    problem,
                    self._policy,
                    self._verifier,
                    self._recipe,
                    budget=budget,
                    slot=slot,
                    scorer=self._scorer,
                    events=events,
                )
                opened.set_attribute("source", record.source.value)
                logger.debug("problem done", extra={"fields": {"source": record.source.value}})
        return record


def count_records(records: Sequence[Record]) -> ShardCounts:
    """Returns the counts of a shard that can be computed from its records and their attempts.

    ShardRewriter adds the other counts, such as the tokens of stopped samples, and the records
    taken over from the previous round.
    """
    attempts = [attempt for record in records for attempt in record.attempts]
    tokens: Counter[Phase] = Counter()
    thought_tokens: Counter[Phase] = Counter()
    for attempt in attempts:
        completion = attempt.rollout.completion
        tokens[attempt.rollout.phase] += len(completion.token_ids)
        if completion.thought is not None:
            thought_tokens[attempt.rollout.phase] += completion.thought.num_tokens
    steps = _step_outcomes(attempts)
    return ShardCounts(
        sources=Counter(record.source for record in records),
        problems=Counter(phase for r in records for phase in {a.rollout.phase for a in r.attempts}),
        samples=Counter(attempt.rollout.phase for attempt in attempts),
        tokens=tokens,
        thought_tokens=thought_tokens,
        solved=Counter(kept.rollout.phase for record in records if (kept := record.kept_attempt)),
        accepted=Counter(
            phase for r in records for phase in {a.rollout.phase for a in r.attempts if a.is_accepted}
        ),
        verdicts=Counter(JudgedAs(a.rollout.phase, a.verdict.outcome, a.verdict.reason) for a in attempts),
        rejections=Counter(a.rejection for a in attempts if a.rejection is not None),
        num_steps_read=steps[Outcome.CORRECT] + steps[Outcome.WRONG],
        num_steps_failed=steps[Outcome.WRONG],
        num_contradicting=sum(contradicts(record.problem, record.expert_verdict) for record in records),
    )


def _step_outcomes(attempts: Iterable[Attempt]) -> Counter[Outcome]:
    """Returns counts of the verdicts on the equations of guided solutions with no other reason to reject
    them.

    So the share that fails is the same whether `require_steps` rejects them or not. A teacher sees no guide,
    so its solutions do not count.
    """
    return Counter(
        a.steps.outcome
        for a in attempts
        if a.steps is not None and a.rollout.phase is not Phase.TEACHER and (a.is_accepted or _is_unsound(a))
    )


def _is_unsound(attempt: Attempt) -> bool:
    """Returns whether an attempt is rejected only because of its equations."""
    return attempt.rejection is not None and attempt.rejection.kind is RejectionKind.UNSOUND_STEPS
