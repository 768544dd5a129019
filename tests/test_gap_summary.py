"""The gap summary on hand-computed cases."""

import math

import numpy as np
import pytest

from drsft.gap.summary import GapSummary, ScoredRow, effective_sample_share, summarise
from drsft.records import Source


def _row(problem: str, source: Source, logprobs: list[float], entropy: float = 1.0) -> ScoredRow:
    return ScoredRow(
        problem_id=problem,
        source=source,
        logprobs_T=np.array(logprobs),
        entropy_T=np.full(len(logprobs), entropy),
    )


DEMONSTRATIONS = [
    _row("a", Source.EXPERT, [-2.0, -4.0]),
    _row("b", Source.EXPERT, [-3.0]),
    _row("c", Source.EXPERT, [-6.0, -6.0]),
]
KEPT = [
    _row("a", Source.OWN, [-0.5, -0.5]),
    _row("b", Source.REWRITTEN, [-1.0, -2.0, -3.0]),
    DEMONSTRATIONS[2],
]


def test_groups_and_improvement_on_a_case_by_hand() -> None:
    summary = summarise(model="m", kept=KEPT, demonstrations=DEMONSTRATIONS)
    assert [group.name for group in summary.groups] == [
        "own", "rewritten", "expert", "kept", "demonstrations", "replaced",
    ]  # fmt: skip
    replaced, kept = summary.group("replaced"), summary.group("kept")
    assert replaced is not None
    assert kept is not None
    assert (replaced.num_rows, replaced.num_tokens, replaced.mean_length) == (2, 3, 1.5)
    assert replaced.mean_logprob == pytest.approx(-3.0)
    assert replaced.perplexity == pytest.approx(math.exp(3))
    assert replaced.mean_phi == pytest.approx(-2.0)
    assert kept.mean_logprob == pytest.approx(-19 / 7)
    assert kept.mean_row_logprob == pytest.approx((-0.5 - 2.0 - 6.0) / 3)
    assert summary.improvement is not None
    assert summary.improvement.value == pytest.approx((2.5 + 1.0) / 2)  # the expert row does not count
    assert summary.improvement.num_problems == 2
    assert summary.improvement.share_positive == 1.0
    assert sum(kept.row_logprobs.counts) == 3


def test_problems_count_once_however_many_rows_they_have() -> None:
    kept = [*KEPT, _row("a", Source.OWN, [-1.5])]
    summary = summarise(model="m", kept=kept, demonstrations=DEMONSTRATIONS)
    assert summary.improvement is not None
    assert summary.improvement.num_problems == 2
    assert summary.improvement.value == pytest.approx((2.0 + 1.0) / 2)


def test_nothing_replaced_means_no_improvement() -> None:
    summary = summarise(model="m", kept=DEMONSTRATIONS, demonstrations=DEMONSTRATIONS)
    assert summary.improvement is None
    assert summary.group("own") is None
    assert summarise(model="m", kept=[], demonstrations=[]).groups == ()


def test_summary_survives_json() -> None:
    summary = summarise(model="m", kept=KEPT, demonstrations=DEMONSTRATIONS)
    assert GapSummary.from_json(summary.to_json()) == summary


def test_effective_sample_share() -> None:
    assert effective_sample_share(np.full(7, -800.0)) == pytest.approx(1.0)  # alike, though exp underflows
    assert effective_sample_share(np.log([1.0, 1e-300, 1e-300, 1e-300])) == pytest.approx(0.25)
    assert effective_sample_share(np.log([1.0, 0.5])) == pytest.approx(1.5**2 / (2 * 1.25))


def test_rows_must_have_scores() -> None:
    with pytest.raises(ValueError, match="problem x"):
        _row("x", Source.OWN, [])
