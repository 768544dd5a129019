"""Judges earlier samples again; the new verdicts are stored beside the old ones."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from drsft.config import Benchmark
from drsft.evaluate.samples import Judging, judgings, read_samples
from drsft.evaluate.sampling import rejudge_shard
from drsft.records import Outcome
from drsft.run import layout
from drsft.run.models import EvaluatedModel
from drsft.run.plan import Plan, read_shard
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.summary import WorkSummary
from drsft.storage import Store
from drsft.verify.protocol import Verifier

__all__ = ["Rejudged", "rejudge_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudged:
    """How the verdicts on one model's samples of one benchmark changed when they were judged again."""

    model: EvaluatedModel
    benchmark: str
    num_samples: int
    changes: Counter[tuple[str, str]]  # (outcome before, outcome now) -> samples, where they differ
    num_correct_before: int
    num_correct_now: int
    is_new: bool  # False: this version of the verifier had judged them already


def rejudge_run(run: Run, verifier: Verifier, *, version: str) -> list[Rejudged]:
    """Judges every complete evaluation of the run again, stores the new verdicts beside the old ones, and
    returns what changed in each.

    An interrupted judging resumes at its missing shards. Samples already judged by this `version` of the
    verifier are skipped, unless some are UNJUDGED, since the machine may have been overloaded then.
    """
    results = []
    for benchmark in run.config.evaluate.benchmarks:
        plan = run.benchmark_plan(benchmark)
        if plan is None:
            continue
        for model in run.models():
            found = _rejudge(run, verifier, version, benchmark, plan, model)
            if found is not None:
                results.append(found)
    return results


def _rejudge(
    run: Run,
    verifier: Verifier,
    version: str,
    benchmark: Benchmark,
    plan: Plan,
    model: EvaluatedModel,
) -> Rejudged | None:
    prefix, shards = layout.samples(run.config.evaluate, model.name, benchmark), sorted(plan.shards)
    store = run.store
    before = read_samples(store, prefix, shards)
    if before is None:
        return None
    judging = _judging(store, prefix, version, shards, before)
    if judging is not None:
        drawn, anew = ShardSet(store, prefix), ShardSet(store, judging.prefix)
        for shard in sorted(set(shards) - anew.done()):
            problems = read_shard(store, layout.benchmark(benchmark), shard)
            verdicts = asyncio.run(rejudge_shard(problems, drawn.table(shard), verifier))
            anew.commit(shard, verdicts, WorkSummary(verifier=version).to_json())
    now = read_samples(store, prefix, shards)
    assert now is not None
    return _compared(model, benchmark.name, before, now, is_new=judging is not None)


def _judging(store: Store, prefix: str, version: str, shards: list[str], before: pa.Table) -> Judging | None:
    """Returns the judging to start or resume; None if there is nothing to judge."""
    known = judgings(store, prefix)
    if known and known[-1].version == version:
        if not ShardSet(store, known[-1].prefix).done() >= set(shards):
            return known[-1]
        is_judged = True
    else:
        summaries = ShardSet(store, prefix).summaries(WorkSummary.from_json)
        is_judged = not known and all(summary.verifier == version for summary in summaries)
    if is_judged and Outcome.UNJUDGED.value not in before["outcome"].to_pylist():
        return None
    number = known[-1].number + 1 if known else 1
    return Judging(number=number, version=version, prefix=layout.verdicts(prefix, number, version))


def _compared(
    model: EvaluatedModel, benchmark: str, before: pa.Table, now: pa.Table, *, is_new: bool
) -> Rejudged:
    pairs = Counter(zip(before["outcome"].to_pylist(), now["outcome"].to_pylist(), strict=True))
    return Rejudged(
        model=model,
        benchmark=benchmark,
        num_samples=now.num_rows,
        changes=Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]}),
        num_correct_before=sum(n for (old, _), n in pairs.items() if old == Outcome.CORRECT),
        num_correct_now=sum(n for (_, new), n in pairs.items() if new == Outcome.CORRECT),
        is_new=is_new,
    )
