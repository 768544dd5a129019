"""Defines rounds: rewrite, train, and rewrite again with the trained model as the target.

"Mind the Gap" (arXiv 2509.15157) rewrites once and leaves repeating it to future work. A later round is a run
of its own inside the run: the same problems, the trained model as target, one arm. Records of problems that
the previous target solved alone are taken over unchanged, unless the new target finds their texts less
likely; a survey of the previous round's records decides which.
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
    """Whether a later round takes over a record of the previous one unchanged (CARRIED_OVER), and if not,
    why it rewrites the problem again.
    """

    CARRIED_OVER = "carried"
    NOT_SOLVED_ALONE = "not solved alone"
    GAP_GREW = "gap grew"


def survey_finding(
    source: Source, *, before: float | None, now: float | None, tolerance: float
) -> SurveyFinding:
    """Returns CARRIED_OVER if the new round takes a record over unchanged, else why it rewrites the problem.

    `before` and `now` are mean log-probs (nats per token) of the kept text after the plain prompt, under the
    previous target and the new one. If `now` is lower by more than `tolerance`, returns GAP_GREW; without
    both, or if the record's source is not OWN, NOT_SOLVED_ALONE.
    """
    if source is not Source.OWN or before is None or now is None:
        return SurveyFinding.NOT_SOLVED_ALONE
    return SurveyFinding.GAP_GREW if before - now > tolerance else SurveyFinding.CARRIED_OVER


def survey_counts(round_run: Run) -> dict[str, Counter[SurveyFinding]]:
    """Returns, by shard name, how many of the previous round's records got each finding of the survey."""
    return {
        shard: Counter({SurveyFinding(name): int(count) for name, count in commit.summary.items()})
        for shard, commit in round_run.survey.commits().items()
    }


def better_of(fresh: Record, before: Record) -> Record:
    """Returns the record to keep of a problem that was rewritten again, usually `fresh`.

    If the new rewriting found no verified text (EXPERT or DROPPED) and the earlier one did, the earlier
    record is kept, with the new attempts appended to its own.
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
        """The folder of the previous round's training whose model is this round's target.

        Not for the first round, whose target is the run's own (AssertionError).
        """
        assert self.before is not None
        config = self.before.run.config
        return layout.training(config.train, config.followed_arm, config.train.seeds[0])

    @property
    def has_target(self) -> bool:
        return self.before is None or self.before.run.store.exists(self.target_training.done)


def rounds_of(run: Run) -> Iterator[Round]:
    """Yields all rounds of a run, first to last; nothing is read, so later ones may have no target yet.

    The name of a later round's folder contains a hash of everything that the round depends on besides the run
    itself: the trainings that its target comes from, through all earlier rounds, and the settings of rounds.
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
    """Returns the last round that has records, as a run: the given run itself if no later round has any."""
    newest = run
    for one in rounds_of(run):
        if not one.run.records.done():
            break
        newest = one.run
    return newest
