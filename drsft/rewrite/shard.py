"""Rewriting shards of a run: read the problems, take all through the cascade at once, commit the records.

No Ray in here: the job's actors hold a ShardRewriter, and so do the benches.
"""

import asyncio
import gc
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from drsft.policy.protocol import Policy, Scorer
from drsft.process.logs import about
from drsft.process.memory import peak_rss_mib
from drsft.process.tracing import span
from drsft.records import Attempt, Outcome, Phase, Problem, Record, RejectionKind
from drsft.rewrite.budget import ProblemSlot, TokenBudget
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.contradiction import contradicts
from drsft.rewrite.events import NO_EVENTS, CascadeEvents
from drsft.rewrite.shard_work import first_work, later_work
from drsft.run import layout
from drsft.run.shards import Commit, ShardSet
from drsft.run.tables import records_to_table
from drsft.storage import Store
from drsft.verify.protocol import Verifier

__all__ = ["ShardRewriter", "freeze_heap", "summarise"]

logger = logging.getLogger(__name__)


class ShardRewriter:
    """Rewrites shards of the run in `store` with one policy; `rewrite` may run for several at once.

    A shard is committed when its slowest problem is done. So that the engine does not idle meanwhile,
    `problems_in_flight` counts over all shards: problems of later shards use the slots of those that are
    done, or that wait for their shard's tokens.
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
    ) -> None:
        """`number` is the round's; a later one carries over what still stands of `before`.

        `events` listens to all problems.
        """
        self._recipe, self._policy, self._verifier = recipe, policy, verifier
        self._shards = ShardSet(store, layout.RECORDS)
        self._provenance = dict(provenance or {})
        self._tokens_per_problem_of_run = tokens_per_problem_of_run
        self._slots = asyncio.Semaphore(problems_in_flight)
        self._scorer, self._events = scorer, events
        self._round = number
        self._pairs_told: Counter[str] = Counter()
        self._read = first_work(store) if before is None else later_work(store, before)

    async def rewrite(self, shard: str) -> Commit:
        """Rewrites and commits a shard, unless it is committed already; returns its commit.

        A restarted actor may hold shards that were reassigned meanwhile.
        """
        with about(shard=shard):
            # The store may be slow; in a thread it does not hold up the other shards' samples.
            found = await asyncio.to_thread(self._shards.find, shard)
            return found or await self._rewrite(shard)

    async def _rewrite(self, shard: str) -> Commit:
        started_at = time.time()
        work = await asyncio.to_thread(self._read, shard)
        problems = work.problems
        share = self._tokens_per_problem_of_run
        budget = TokenBudget(None if share is None else round(share * len(problems)))
        records = await asyncio.gather(*(self._rewrite_one(problem, budget) for problem in problems))
        summary = summarise(records, started_at=started_at) | {"provenance": self._provenance}
        # These two depend on timing, unlike all else: what was stopped, and which pairs fell out of step.
        summary["stopped_tokens"] = budget.num_spent - sum(record.num_sampled_tokens for record in records)
        summary["pairs"] = self._pairs_since_told()
        kept = work.merged(records, self._round)
        summary |= {"kept": Counter(record.source.value for record in kept), "carried": work.saved}
        commit = await asyncio.to_thread(self._commit, shard, kept, summary)
        told = {"problems": len(problems), "tokens": budget.num_spent, "seconds": time.time() - started_at}
        logger.info("shard committed", extra={"fields": told})
        return commit

    def _commit(self, shard: str, kept: Sequence[Record], summary: dict[str, Any]) -> Commit:
        return self._shards.commit(shard, records_to_table(kept, self._provenance), summary)

    def _pairs_since_told(self) -> Counter[str]:
        """What Hinted Decoding's pairs went through since this actor's last commit, whosever they were.

        The engine does not know shards; summed over an actor's commits every pair counts once.
        """
        if self._recipe.hinting is None:
            return Counter()
        told, self._pairs_told = self._pairs_told, Counter(asdict(self._recipe.hinting.decoder.counts))
        return self._pairs_told - told

    async def _rewrite_one(self, problem: Problem, budget: TokenBudget) -> Record:
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
                    events=self._events,
                )
                opened.set_attribute("source", record.source.value)
                logger.debug("problem done", extra={"fields": {"source": record.source.value}})
        return record


def freeze_heap() -> None:
    """Makes garbage collection cheap; call it once, when a process has loaded everything.

    torch, transformers and an engine leave half a million objects that live as long as the process: frozen,
    the collector no longer walks through them again and again, which was half of the cascade's own time.
    Records hold no cycles, so looking every 50,000 objects for some instead of every 700 frees no less.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def summarise(records: Sequence[Record], *, started_at: float) -> dict[str, Any]:
    """The counts of a shard, so that a report needs the small commit objects only."""
    attempts = [attempt for record in records for attempt in record.attempts]
    verdicts = Counter(f"{a.rollout.phase}/{a.verdict.outcome}/{a.verdict.reason}" for a in attempts)
    tokens: Counter[str] = Counter()
    for attempt in attempts:
        tokens[attempt.rollout.phase.value] += len(attempt.rollout.completion.token_ids)
    steps = _step_outcomes(attempts)
    return {
        "sources": Counter(record.source.value for record in records),
        "solved": Counter(kept.rollout.phase.value for record in records if (kept := record.kept_attempt)),
        "accepted": Counter(
            phase.value for r in records for phase in {a.rollout.phase for a in r.attempts if a.is_accepted}
        ),
        "refusals": Counter(str(a.rejection) for a in attempts if a.rejection is not None),
        "checks": {
            "steps_read": steps[Outcome.CORRECT] + steps[Outcome.WRONG],
            "steps_failed": steps[Outcome.WRONG],
            "contradicting": sum(contradicts(record.problem, record.expert_verdict) for record in records),
        },
        "samples": Counter(attempt.rollout.phase.value for attempt in attempts),
        "problems": Counter(phase.value for r in records for phase in {a.rollout.phase for a in r.attempts}),
        "tokens": tokens,
        "verdicts": verdicts,
        "started_at": started_at,  # seconds since 1970
        "ended_at": time.time(),
        "actor": f"{socket.gethostname()}/{os.getpid()}",
        "cpu_s": time.process_time(),  # of the actor, so far
        "peak_rss_mib": peak_rss_mib(),  # likewise
    }


def _step_outcomes(attempts: Iterable[Attempt]) -> Counter[Outcome]:
    """Of the guided solutions that are accepted, or would be but for their equations: what share fails is
    told whether `require_steps` refuses them or not. A teacher's own text saw no guide."""
    return Counter(
        a.steps.outcome
        for a in attempts
        if a.steps is not None and a.rollout.phase is not Phase.TEACHER and (a.is_accepted or _is_unsound(a))
    )


def _is_unsound(attempt: Attempt) -> bool:
    """Whether its equations are all that speaks against it."""
    return attempt.rejection is not None and attempt.rejection.kind is RejectionKind.UNSOUND_STEPS
