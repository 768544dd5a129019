"""Computes for each round, from the commits, what it rewrote, its scores, and how many tokens had been
sampled for the records which it took over unchanged.
"""

from collections.abc import Iterator

from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.records import Phase, Source
from drsft.report.data import RoundScore, RoundShown
from drsft.run.rounds import Round, rounds_of
from drsft.run.run import Run
from drsft.run.summary import ShardCounts

__all__ = ["rounds_shown"]


def rounds_shown(run: Run) -> Iterator[RoundShown]:
    """Yields the numbers of each round that has records so far; nothing for a run with one round."""
    if run.config.rounds.count < 2:
        return
    arm = run.config.followed_arm.name
    before: dict[str, ArmScore] = {}
    for one in rounds_of(run):
        summaries = one.run.summaries()
        if not summaries:
            return
        now = {score.benchmark: score for score in arm_scores(one.run) if score.arm == arm}
        counts = ShardCounts.total(summary.counts for summary in summaries)
        yield _shown(one, counts, [_score(now[name], before.get(name)) for name in now])
        before = now


def _shown(one: Round, counts: ShardCounts, scores: list[RoundScore]) -> RoundShown:
    return RoundShown(
        number=one.number,
        prefix=one.prefix,
        sources={source: counts.kept[source] for source in Source},
        num_rewritten=counts.sources.total(),
        num_carried=counts.num_carried_over,
        num_tokens=counts.tokens.total() - counts.tokens[Phase.TEACHER],
        num_tokens_saved=counts.num_tokens_saved,
        scores=tuple(scores),
    )


def _score(now: ArmScore, before: ArmScore | None) -> RoundScore:
    mean = now.score.avg_at_k
    return RoundScore(
        benchmark=now.benchmark,
        avg_at_k=mean.value,
        low=mean.low,
        high=mean.high,
        change=None if before is None else compare(now.samples, before.samples),
    )
