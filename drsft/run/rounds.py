"""Rounds: rewrite, train, and rewrite again with the trained policy as the target.

"Mind the Gap" (arXiv 2509.15157) rewrites once and names repeating it as future work. A later round is a run
of its own inside the run: the same problems, the trained model as target, one arm. What the model before
solved alone is its own text already and is carried over, unless the new target finds it less likely.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from drsft.config import RunConfig
from drsft.config.base import fingerprint
from drsft.records import Record, Source
from drsft.run import layout

__all__ = ["Round", "Standing", "plan_rounds", "settled", "standing_of"]


class Standing(StrEnum):
    """Whether a record of the round before still stands, and why not."""

    CARRIED = "carried"
    UNSOLVED = "not solved alone"
    GAP_GREW = "gap grew"


def standing_of(source: Source, *, before: float | None, now: float | None, tolerance: float) -> Standing:
    """`before` and `now` are mean log-probs (nats per token) of the kept text, under the target of the round
    before and under the new one, both with the plain prompt; they count for OWN text alone.
    """
    if source is not Source.OWN or before is None or now is None:
        return Standing.UNSOLVED
    return Standing.GAP_GREW if before - now > tolerance else Standing.CARRIED


def settled(fresh: Record, before: Record) -> Record:
    """The record of a problem that was rewritten again: the fresh one, unless its cascade fell back.

    A verified text of an earlier round is better than the expert's; the fresh attempts then follow its own.
    """
    fell_back = fresh.source in (Source.EXPERT, Source.DROPPED)
    if fell_back and before.source not in (Source.EXPERT, Source.DROPPED):
        return replace(before, attempts=(*before.attempts, *fresh.attempts))
    return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round as a run of its own: `config` with its own target, stored below `prefix` of the run."""

    number: int
    prefix: str  # empty for the first, which is the run itself
    config: RunConfig
    before: "Round | None" = None
    trained_key: str = ""  # of the run: where the training that gave this target says that it is done


def plan_rounds(config: RunConfig, run_url: str) -> Iterator[Round]:
    """All rounds of a run, first to last; nothing is read, so later ones may have no target yet.

    The name of a later round says all that it depends on beside the run itself: which training its target
    comes from, through all rounds before it, and how rounds are made.
    """
    current = Round(number=1, prefix="", config=config)
    yield current
    if config.rounds.count == 1:
        return
    arm = config.followed_arm
    for number in range(2, config.rounds.count + 1):
        before = current
        folder = before.prefix + "/" if before.prefix else ""
        training = layout.training(before.config.train, arm, config.train.seeds[0])
        made_by = [folder + training.prefix, config.rounds.model_dump(mode="json", exclude={"count", "arm"})]
        target = config.target.model_copy(update={"model": f"{run_url}/{folder}{training.export}"})
        start = config.target.model if config.rounds.start_from == "base" else None
        train = config.train.model_copy(update={"arms": (arm,), "initial_model": start})
        evaluate = config.evaluate.model_copy(update={"base": False})
        update = {"target": target, "train": train, "evaluate": evaluate}
        current = Round(
            number=number,
            prefix=layout.round_prefix(number, fingerprint(made_by, num_digits=8)),
            config=config.model_copy(update=update),
            before=before,
            trained_key=folder + training.done,
        )
        yield current
