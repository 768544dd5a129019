"""The gap summary on hand-computed cases."""

import math

import pytest

from drsft.gap.scored_texts import Role
from drsft.gap.summary import summarise
from tests.support.gap import Scored, scored_rows

DEMONSTRATION = Role.DEMONSTRATION
DEMONSTRATIONS = [
    Scored(row_id="a", source="expert", logprobs=[-2.0, -4.0], role=DEMONSTRATION),
    Scored(row_id="b", source="expert", logprobs=[-3.0], role=DEMONSTRATION),
    Scored(row_id="c", source="expert", logprobs=[-6.0, -6.0], role=DEMONSTRATION),
]
KEPT = [
    Scored(row_id="a", source="own", logprobs=[-0.5, -0.5]),
    Scored(row_id="b", source="rewritten", logprobs=[-1.0, -2.0, -3.0]),
    Scored(row_id="c", source="expert", logprobs=[-6.0, -6.0]),
]
SAMPLED = Scored(row_id="a", source="own", logprobs=[-1.5, -0.7], role=Role.SAMPLE)


def test_groups_and_improvement_on_a_case_by_hand() -> None:
    summary = summarise(model="m", rows=scored_rows([*KEPT, *DEMONSTRATIONS, SAMPLED]))
    assert [group.name for group in summary.groups] == [
        "own", "rewritten", "expert", "kept", "demonstrations", "replaced", "sampled",
    ]  # fmt: skip
    replaced, kept = summary.group("replaced"), summary.group("kept")
    assert replaced is not None
    assert kept is not None
    assert (replaced.num_rows, replaced.num_tokens, replaced.mean_length) == (2, 3, 1.5)
    assert replaced.mean_logprob == pytest.approx(-3.0)
    assert replaced.perplexity == pytest.approx(math.exp(3))
    assert replaced.mean_phi == pytest.approx(-2.0)
    assert replaced.phi_below == pytest.approx((2 / 3, 0.0, 0.0))  # phi is -1, -3, -2: strictly below counts
    assert kept.mean_logprob == pytest.approx(-19 / 7)
    assert kept.mean_row_logprob == pytest.approx((-0.5 - 2.0 - 6.0) / 3)
    assert kept.mean_row_phi == pytest.approx((0.5 - 1.0 - 5.0) / 3)
    assert summary.improvement is not None
    assert summary.improvement.value == pytest.approx((2.5 + 1.0) / 2)  # the expert row does not count
    assert summary.improvement.num_problems == 2
    assert summary.improvement.share_positive == 1.0
    assert sum(kept.row_logprobs.counts) == sum(kept.row_phis.counts) == 3


def test_weights_of_objectives_by_hand() -> None:
    rows = [Scored(row_id="a", source="own", logprobs=[math.log(0.5), math.log(0.25)])]
    (group, *_) = summarise(model="m", rows=scored_rows(rows)).groups
    sft, dft = group.weight("sft"), group.weight("dft")
    assert sft is not None
    assert dft is not None
    assert (sft.mean, sft.variance, sft.effective_sample_share) == (1.0, 0.0, 1.0)
    assert dft.mean == pytest.approx(0.375)
    assert dft.variance == pytest.approx((0.125**2 + 0.125**2) / 2)
    assert dft.effective_sample_share == pytest.approx(0.75**2 / (2 * (0.25 + 0.0625)))


def test_weights_that_all_vanish_leave_no_sample() -> None:
    rows = [Scored(row_id="a", source="own", logprobs=[-800.0, -900.0])]
    (group, *_) = summarise(model="m", rows=scored_rows(rows)).groups
    dft = group.weight("dft")
    assert dft is not None
    assert dft.effective_sample_share == 0.0


def test_the_interval_of_phi_is_clustered_by_problem() -> None:
    """Forty copies of one row are no more evidence than the row itself."""
    once = [
        Scored(row_id="a", source="own", logprobs=[-1.0, -3.0]),
        Scored(row_id="b", source="own", logprobs=[-2.5, -0.5]),
    ]
    copies = [
        Scored(row_id=row.row_id, source="own", logprobs=row.logprobs, index=i)
        for row in once
        for i in range(40)
    ]
    groups = [summarise(model="m", rows=scored_rows(rows)).groups[0] for rows in (once, copies)]
    assert groups[0].low_phi == pytest.approx(groups[1].low_phi)
    assert groups[0].low_phi is not None
    assert groups[0].low_phi < groups[0].mean_phi


def test_a_single_problem_has_no_interval() -> None:
    summary = summarise(model="m", rows=scored_rows(KEPT[:1]))
    assert summary.groups[0].low_phi is None


def test_problems_count_once_however_many_rows_they_have() -> None:
    kept = [*KEPT, Scored(row_id="a", source="own", logprobs=[-1.5], index=1)]
    summary = summarise(model="m", rows=scored_rows([*kept, *DEMONSTRATIONS]))
    assert summary.improvement is not None
    assert summary.improvement.num_problems == 2
    assert summary.improvement.value == pytest.approx((2.0 + 1.0) / 2)


def test_nothing_replaced_means_no_improvement() -> None:
    rows = [*(Scored(row_id=row.row_id, source="expert", logprobs=row.logprobs) for row in DEMONSTRATIONS)]
    summary = summarise(model="m", rows=scored_rows([*rows, *DEMONSTRATIONS]))
    assert summary.improvement is None
    assert summary.group("own") is None
    assert summarise(model="m", rows=scored_rows([])).groups == ()


def test_a_users_own_sources_are_groups() -> None:
    rows = [
        Scored(row_id="1", source="zebra", logprobs=[-1.0]),
        Scored(row_id="2", source="kept", logprobs=[-2.0]),
    ]
    names = [group.name for group in summarise(model="m", rows=scored_rows(rows)).groups]
    assert names == ["source kept", "zebra", "kept"]
