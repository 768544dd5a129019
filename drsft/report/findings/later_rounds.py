"""Writes a sentence on how the rounds after the first one changed the accuracy."""

from collections.abc import Sequence

from drsft.records import Source
from drsft.report.data import RoundShown
from drsft.report.findings.finding import Finding
from drsft.report.wording import count, plural

__all__ = ["rounds_finding"]


def rounds_finding(rounds: Sequence[RoundShown]) -> Finding | None:
    """Says how the later rounds changed the accuracy, and how many tokens had been sampled for the records
    that they took over unchanged; None for a run with one round.
    """
    if len(rounds) < 2:
        return None
    *_, last = rounds
    changes = [score.change for one in rounds for score in one.scores if score.change is not None]
    clear = [change for change in changes if change.is_clear]
    gained = sum(change.value > 0 for change in clear)
    saved = sum(one.num_tokens_saved for one in rounds)
    if not changes:
        sentence = "Nothing has been evaluated after a later round yet."
    elif not clear:
        sentence = f"None of {plural(len(rounds), 'round')} changed the accuracy beyond chance."
    else:
        sentence = (
            f"Of {plural(len(changes), 'change')} from round to round {gained} are clear gains and "
            f"{len(clear) - gained} clear losses."
        )
    own = plural(last.sources.get(Source.OWN, 0), "text")
    return Finding(
        sentence=sentence,
        detail=f"Round {last.number} keeps {own} that a target wrote alone, {count(last.num_carried)} of all "
        f"carried over; over all rounds, what was carried over had cost {count(saved)} tokens.",
    )
