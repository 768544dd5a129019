"""Defines rounds: rewrite, train, and rewrite again with the trained model as the target.

"Mind the Gap" (arXiv 2509.15157) rewrites once and leaves repeating it to future work. A later round is a run
of its own inside the run: the same problems, the trained model as target, one arm. Texts that the previous
target solved alone are carried over, unless the new target finds them less likely; a survey of the previous
round's records decides which.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from drsft.config.base import fingerprint
from drsft.records import Record, Source
from drsft.run import layout
from drsft.run.run import Run

__all__ = [
    "Round",
    "SurveyFinding",
    "better_of",
    "newest_round",
    "rounds_of",
    "survey_counts",
    "survey_finding",
]


class SurveyFinding(StrEnum):
    """Whether a record of the previous round is carried over, and if not, the reason."""

    CARRIED_OVER = "carried"
    NOT_SOLVED_ALONE = "not solved alone"
    GAP_GREW = "gap grew"


def survey_finding(
    source: Source, *, before: float | None, now: float | None, tolerance: float
) -> SurveyFinding:
    """Returns whether a record is carried over.

    `before` and `now` are mean log-probs (nats per token) of the kept text, under the previous target and the
    new one, both with the plain prompt; they count for OWN text alone.
    """
    if source is not Source.OWN or before is None or now is None:
        return SurveyFinding.NOT_SOLVED_ALONE
    return SurveyFinding.GAP_GREW if before - now > tolerance else SurveyFinding.CARRIED_OVER


def survey_counts(round_run: Run) -> dict[str, Counter[SurveyFinding]]:
    """Returns the previous round's records by finding, for each surveyed shard."""
    return {
        shard: Counter({SurveyFinding(name): int(count) for name, count in commit.summary.items()})
        for shard, commit in round_run.survey.commits().items()
    }


def better_of(fresh: Record, before: Record) -> Record:
    """Returns the better record of a problem that was rewritten again: the new one, unless its cascade fell
    back to the expert's text.

    A verified text of an earlier round is better than the expert's; the new attempts are then appended to it.
    """
    fell_back = fresh.source in (Source.EXPERT, Source.DROPPED)
    if fell_back and before.source not in (Source.EXPERT, Source.DROPPED):
        return replace(before, attempts=(*before.attempts, *fresh.attempts))
    return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round as a run of its own, with its own target; it is stored below `prefix` of the whole run."""

    number: int
    prefix: str  # empty for the first, which is the run itself
    run: Run
    before: "Round | None" = None

    @property
    def target_training(self) -> layout.TrainingFolder:
        """The folder of the previous round's training whose model is this round's target."""
        assert self.before is not None
        config = self.before.run.config
        return layout.training(config.train, config.followed_arm, config.train.seeds[0])

    @property
    def has_target(self) -> bool:
        return self.before is None or self.before.run.store.exists(self.target_training.done)


def rounds_of(run: Run) -> Iterator[Round]:
    """Yields all rounds of a run, first to last; nothing is read, so later ones may have no target yet.

    A later round's name covers everything that it depends on besides the run itself: the trainings that its
    target comes from, through all earlier rounds, and the settings of rounds.
    """
    current = Round(number=1, prefix="", run=run)
    yield current
    for number in range(2, run.config.rounds.count + 1):
        current = _following(current, run, number)
        yield current


def _following(before: Round, run: Run, number: int) -> Round:
    config, arm = run.config, run.config.followed_arm
    training = layout.training(before.run.config.train, arm, config.train.seeds[0])
    made_by = [
        f"{before.prefix}/{training.prefix}" if before.prefix else training.prefix,
        config.rounds.model_dump(mode="json", exclude={"count", "arm"}),
    ]
    start = config.target.model if config.rounds.start_from == "base" else None
    own = config.model_copy(
        update={
            "target": config.target.model_copy(update={"model": f"{before.run.url}/{training.export}"}),
            "train": config.train.model_copy(update={"arms": (arm,), "initial_model": start}),
            "evaluate": config.evaluate.model_copy(update={"base": False}),
        }
    )
    prefix = layout.round_prefix(number, fingerprint(made_by, num_digits=8))
    return Round(number=number, prefix=prefix, run=Run(run.store.within(prefix), own), before=before)


def newest_round(run: Run) -> Run:
    """Returns the last round that has records; the run itself if it has one round, or none yet."""
    newest = run
    for one in rounds_of(run):
        if not one.run.records.done():
            break
        newest = one.run
    return newest
