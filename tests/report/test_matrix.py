"""The report of a matrix of arms: more of them than there are colours, and more pairs than one reads."""

import re
from dataclasses import replace
from itertools import pairwise

from drsft.evaluate.paired import PairedDifference
from drsft.report.charts.curves import draw_losses, merge_seeds, panels
from drsft.report.data import ArmDifference, LossCurve, ReportData
from drsft.report.findings import ranking as leads
from drsft.report.html.page import arm_colours, render
from tests.support.report_sample import sample_report

DATA, OBJECTIVES = ("expert", "self_only", "rewritten", "hinted"), ("sft", "dft", "idft", "iw_sft")


def matrix_report() -> ReportData:
    sample = sample_report()
    base, row = sample.comparison[0], sample.comparison[1]
    rows, losses = [base], []
    for data in DATA:
        for kind in OBJECTIVES:
            arm = f"{data}+{kind}"
            rows.append(replace(row, arm=arm, data=data, objective=kind))
            losses.append(LossCurve(arm=arm, seed=0, points=((1, 1.0), (2, 0.5)), data=data, objective=kind))
    rows[6] = replace(rows[6], avg_at_k=0.9)
    names = [one.arm for one in rows]
    difference = PairedDifference(value=0.1, low=0.05, high=0.15, num_problems=200, num_gained=9, num_lost=4)
    pairs = [(first, second) for at, second in enumerate(names) for first in names[at + 1 :]]
    return replace(
        sample,
        comparison=tuple(rows),
        losses=tuple(losses),
        probabilities=(),
        differences=tuple(
            ArmDifference(arm=arm, other=other, benchmark="held-out", difference=difference)
            for arm, other in pairs
        ),
    )


def test_arms_that_outnumber_the_colours_share_those_of_their_objective() -> None:
    colours = arm_colours(matrix_report())
    for kind in OBJECTIVES:
        assert len({colours[f"{data}+{kind}"] for data in DATA}) == 1
    assert len(set(colours.values())) == 1 + len(OBJECTIVES)
    few = arm_colours(sample_report())
    assert len(set(few.values())) == len(few)


def test_their_curves_get_a_panel_for_each_data_view_on_the_same_axes() -> None:
    report = matrix_report()
    curves = merge_seeds(report.losses)
    assert {name: len(part) for name, part in panels(curves).items()} == dict.fromkeys(DATA, 4)
    chart = draw_losses(curves, arm_colours(report), width=920).markup("")
    assert chart.count("optimiser step") == 4
    heights = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>optimiser step', chart)]
    assert len({round(b - a, 3) for a, b in pairwise(heights)}) == 1
    assert list(panels(curves[:5])) == [""]


def test_of_many_pairs_those_with_base_and_the_best_arm_stand_first_and_all_are_there() -> None:
    report = matrix_report()
    shown = leads.pairs_to_show(report)
    assert len(shown) == 16 + 15
    assert all({one.arm, one.other} & {"base", "self_only+dft"} for one in shown)
    page = render(report)
    assert "All 136 pairs as a table" in page
    assert page.count(" is better</td>") == 31 + 136
    assert "not clearly different from it: 10 of 16 others." in page
    assert leads.pairs_to_show(sample_report()) == list(sample_report().differences)
