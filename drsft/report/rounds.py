"""What each round rewrote, saved and scored, from the commits of all rounds."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from drsft.config import RunConfig
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.records import Phase, Source
from drsft.report.data import RoundScore, RoundShown
from drsft.run import layout
from drsft.run.rounds import Round, plan_rounds
from drsft.run.run import round_store
from drsft.run.shards import ShardSet
from drsft.storage import Store

__all__ = ["rounds_shown"]


def rounds_shown(config: RunConfig, run: Store) -> Iterator[RoundShown]:
    """The rounds that have records so far; none for a run with one round."""
    if config.rounds.count < 2:
        return
    arm = config.followed_arm.name
    before: dict[str, ArmScore] = {}
    for one in plan_rounds(config, run.url):
        store = round_store(run, one)
        summaries = [commit.summary for commit in ShardSet(store, layout.RECORDS).commits().values()]
        if not summaries:
            return
        now = {score.benchmark: score for score in arm_scores(one.config, store) if score.arm == arm}
        yield _shown(one, summaries, [_score(now[name], before.get(name)) for name in now])
        before = now


def _shown(one: Round, summaries: list[dict[str, Any]], scores: list[RoundScore]) -> RoundShown:
    kept: Counter[str] = Counter()
    carried: Counter[str] = Counter()
    fresh = tokens = 0
    for summary in summaries:
        kept.update(summary["kept"])
        carried.update(summary["carried"])
        fresh += sum(summary["sources"].values())
        tokens += sum(count for phase, count in summary["tokens"].items() if phase != Phase.TEACHER)
    return RoundShown(
        number=one.number,
        prefix=one.prefix,
        sources={source: kept[source.value] for source in Source},
        num_rewritten=fresh,
        num_carried=carried["problems"],
        num_tokens=tokens,
        num_tokens_saved=carried["tokens"],
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
