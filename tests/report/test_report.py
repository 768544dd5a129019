"""The report: honest sentences, escaped text, nothing from outside, and plain words for what is missing."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from drsft.evaluate.paired import PairedDifference
from drsft.gap.report import gap_report
from drsft.records import Phase, Source
from drsft.report.cascade_counts import Cascade, CascadePhase
from drsft.report.charts.axes import Scale, nice_ticks, step_ticks, tick_digits, ticks_within
from drsft.report.charts.curves import draw_losses, merge_seeds
from drsft.report.data import (
    ArmDifference,
    ComparisonRow,
    LossCurve,
    ProblemCounts,
    ReportData,
    ShownText,
    TokenProbabilities,
)
from drsft.report.findings import cascade as findings
from drsft.report.findings import gap as gap_findings
from drsft.report.findings import ranking as leads
from drsft.report.findings.training import final_loss, probability_finding
from drsft.report.html.page import render
from drsft.report.terminal.result_rows import COMPARISON_HEADER, comparison_rows, source_rows
from drsft.report.wording import decimal, joined, percent, points
from tests.support.gap import scored_rows
from tests.support.report_sample import sample_report

EMPTY = ReportData(
    run_id="r-0", name="r", created="now", config_yaml="name: r", problems=ProblemCounts(num_read=0)
)


def _row(arm: str, value: float, *, margin: float = 0.03, benchmark: str = "gsm") -> ComparisonRow:
    kinds = {"base": (None, None), "sft": ("expert", "sft"), "dft": ("expert", "dft")}
    data, objective = kinds.get(arm, ("rewritten", "dft"))
    return ComparisonRow(
        arm=arm, data=data, objective=objective, benchmark=benchmark, avg_at_k=value,
        low=value - margin, high=value + margin, k=4, num_problems=100,
    )  # fmt: skip


@pytest.mark.parametrize(("num_failed", "share"), [(0, "0.0 %"), (3, "37.5 %")])
def test_the_share_of_unsound_equations_is_told_wherever_some_were_read(num_failed: int, share: str) -> None:
    none = Cascade(phases=(), sources={})
    assert findings.steps_finding(none) is None
    told = findings.steps_finding(replace(none, num_steps_checked=8, num_steps_failed=num_failed))
    assert told is not None
    assert share in told.sentence.replace("\u202f", " ")


def _headline(*rows: ComparisonRow, differences: tuple[ArmDifference, ...] = ()) -> str:
    data = replace(EMPTY, comparison=rows, differences=differences)
    return leads.headline(data).sentence.replace("\u202f", " ")


def _paired(arm: str, other: str, low: float, high: float) -> ArmDifference:
    difference = PairedDifference(
        value=(low + high) / 2, low=low, high=high, num_problems=100, num_gained=9, num_lost=4
    )
    return ArmDifference(arm=arm, other=other, benchmark="gsm", difference=difference)


def test_headline_names_the_best_arm_when_its_lead_is_clear() -> None:
    sentence = _headline(_row("base", 0.3), _row("sft", 0.4), _row("dr+dft", 0.5))
    assert sentence == "dr+dft scores 50.0 % on gsm, clearly more than base (30.0 %) and sft (40.0 %)."


def test_headline_admits_a_lead_that_may_be_chance() -> None:
    assert _headline(_row("base", 0.3), _row("sft", 0.48), _row("dr+dft", 0.5)) == (
        "dr+dft scores 50.0 % on gsm, clearly more than base (30.0 %), "
        "but its lead over sft (48.0 %) may be chance."
    )


def test_headline_says_so_when_nothing_differs() -> None:
    sentence = _headline(_row("base", 0.49), _row("sft", 0.48), _row("dr+dft", 0.5))
    assert sentence.startswith("No clear winner on gsm: dr+dft scores highest with 50.0 %")


def test_headline_says_so_when_training_did_not_help() -> None:
    assert _headline(_row("base", 0.5), _row("sft", 0.2), _row("dft", 0.4)) == (
        "No training helped on gsm: the untrained model scores 50.0 %, the best arm, dft, 40.0 %."
    )


def test_paired_differences_decide_over_intervals() -> None:
    rows = (_row("base", 0.48), _row("dr+dft", 0.5))
    assert "may be chance" in _headline(*rows)
    assert "clearly more" in _headline(*rows, differences=(_paired("dr+dft", "base", 0.01, 0.03),))
    assert "clearly more" in _headline(*rows, differences=(_paired("base", "dr+dft", -0.03, -0.01),))
    far = (_row("base", 0.3), _row("dr+dft", 0.5))
    assert "may be chance" in _headline(*far, differences=(_paired("dr+dft", "base", -0.1, 0.5),))


def test_headline_over_several_benchmarks_counts_clear_leads() -> None:
    rows = [
        _row(arm, value, benchmark=name)
        for name, scores in {"gsm": (0.3, 0.5), "svamp": (0.6, 0.61)}.items()
        for arm, value in zip(("base", "dr+dft"), scores, strict=True)
    ]
    assert _headline(*rows) == (
        "dr+dft is best on average over 2 benchmarks (55.5 %); "
        "its lead over base (45.0 %) is clear on 1 of 2."
    )


def test_flow_says_honestly_when_nearly_all_stays_the_experts() -> None:
    phase = CascadePhase(
        phase=Phase.SELF_ALIGN, num_problems=100, num_solved=2, num_samples=400, num_tokens=9000
    )
    cascade = Cascade(phases=(phase,), sources={Source.OWN: 2, Source.EXPERT: 98})
    finding = findings.flow_finding(cascade)
    assert finding.sentence.startswith("Nearly all of 100 problems keep the expert's text")
    assert phase.tokens_per_solved == 4500


def test_gap_finding_reads_the_interval() -> None:
    report = sample_report()
    assert report.gap is not None
    gap = report.gap.summary
    assert gap.improvement is not None
    assert "likelier than the expert text" in gap_findings.gap_finding(gap).sentence
    level = replace(gap, improvement=replace(gap.improvement, low=-0.1))
    assert "neither clearly likelier" in gap_findings.gap_finding(level).sentence
    worse = replace(gap, improvement=replace(gap.improvement, value=-0.4, low=-0.5, high=-0.3))
    assert "0.40 nats per token less likely" in gap_findings.gap_finding(worse).sentence
    assert "nothing to compare" in gap_findings.gap_finding(replace(gap, improvement=None)).sentence


def test_sections_stand_in_the_agreed_order() -> None:
    ids = re.findall(r'<section id="(\w+)"', render(sample_report()))
    assert ids == ["comparison", "cascade", "costs", "gap", "losses", "rows", "problems", "setting"]


def test_the_overlap_with_the_training_data_stands_beside_the_scores() -> None:
    row = replace(_row("dft", 0.5), maj_at_k=0.612, num_overlapping=2, num_clean=97, clean_avg_at_k=0.433)
    page = render(replace(EMPTY, comparison=(row,)))
    assert "2 training problems overlap with this benchmark" in page
    assert "its 97 problems that none overlaps with are clean" in page
    assert all(number in page for number in ("61.2", "43.3", "Clean avg@4"))
    untouched = render(replace(EMPTY, comparison=(replace(row, num_overlapping=0),)))
    assert "0 training problems overlap with this benchmark." in untouched
    assert "Clean avg@" not in untouched


def test_page_is_small_and_loads_nothing() -> None:
    page = render(sample_report())
    assert len(page) < 300_000
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)
    assert not re.search(r"\b(src|href)=\"(?!#|data:)", page)
    assert "default-src 'none'" in page


def test_missing_parts_are_left_out_with_a_plain_sentence() -> None:
    page = render(EMPTY)
    assert "Nothing has been measured yet" in page
    for sentence in (
        "Nothing has been evaluated yet",
        "has rewritten nothing yet",
        "The gap has not been measured",
        "has trained nothing yet",
        "no kept rows to show",
        "No row was set aside",
    ):
        assert sentence in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    "missing", ["comparison", "differences", "losses", "rows", "versions", "environment"]
)
def test_any_part_may_be_missing_alone(missing: str) -> None:
    empty = {} if missing in ("versions", "environment") else ()
    assert "</html>" in render(replace(sample_report(), **{missing: empty}))


def test_optional_parts_may_be_none_and_groups_may_be_few() -> None:
    report = sample_report()
    assert "<h1>" in render(replace(report, gap=None, cascade=None))
    assert "<h1>" in render(replace(report, gap=gap_report(model="m", rows=scored_rows([]))))
    phase = CascadePhase(phase=Phase.GUIDED, num_problems=3, num_solved=0, num_samples=0, num_tokens=0)
    assert "<h1>" in render(replace(report, cascade=Cascade(phases=(phase,), sources={Source.EXPERT: 3})))
    assert "<h1>" in render(replace(report, cascade=Cascade(phases=(), sources={Source.EXPERT: 3})))
    assert "<h1>" in render(replace(report, losses=(LossCurve(arm="sft", seed=0, points=((1, 0.5),)),)))


def test_text_from_data_stays_text() -> None:
    attack = "<script>alert(1)</script>\"'<img src=x onerror=alert(1)>"
    report = sample_report()
    text = ShownText(text=attack)
    browsed = replace(report.rows[0], question=attack, kept=text, expert=text, reason=attack)
    row = replace(report.comparison[1], arm=attack)
    phase = CascadePhase(
        phase=Phase.GUIDED, num_problems=9, num_solved=3, num_samples=9, num_tokens=99, reasons={attack: 6}
    )
    grounding = report.grounding
    assert grounding is not None
    copied = grounding.lowest[0]
    problem = replace(copied.problem, problem_id=attack, question=attack)
    page = render(
        replace(
            report,
            name=attack,
            config_yaml=attack,
            rows=(browsed,),
            comparison=(row,),
            cascade=Cascade(phases=(phase,), sources={Source.OWN: 9}),
            grounding=replace(grounding, lowest=(replace(copied, problem=problem),)),
            losses=(replace(report.losses[0], arm=attack),),
            versions={attack: attack},
        )
    )
    assert page.count("<script") == 2, "the page's own and its packed rows"
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 5


def test_charts_are_well_formed_and_come_in_three_widths() -> None:
    charts = re.findall(r'<svg class="chart.*?</svg>', render(sample_report()), flags=re.DOTALL)
    assert len(charts) == 3 * 10
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.get("aria-label")
        assert "nan" not in chart


def test_every_table_of_a_chart_stands_behind_it() -> None:
    page = render(sample_report())
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 11
    for figure in figures:
        assert "<h3>" in figure
        assert "<table>" in figure


def test_rendering_is_deterministic() -> None:
    assert render(sample_report()) == render(sample_report())


def test_seeds_merge_into_means_and_ranges() -> None:
    losses = [
        LossCurve(arm="a", seed=0, points=((0, 1.0), (1, 0.5))),
        LossCurve(arm="a", seed=1, points=((0, 2.0), (1, 1.5))),
    ]
    (curve,) = merge_seeds(losses)
    assert (curve.steps, curve.means) == ((0.0, 1.0), (1.5, 1.0))
    assert (curve.lows, curve.highs, curve.num_seeds) == ((1.0, 0.5), (2.0, 1.5), 2)
    long = LossCurve(arm="b", seed=0, points=tuple((step, float(step)) for step in range(10_000)))
    (thinned,) = merge_seeds([long])
    assert len(thinned.steps) <= 121
    assert thinned.means[0] == pytest.approx(41.5, abs=1)
    assert final_loss([long]) == pytest.approx(9499.5, abs=1)


def test_ticks_are_round_and_cover_the_data() -> None:
    assert nice_ticks(0.31, 0.58, 4) == [0.3, 0.4, 0.5, 0.6]
    assert nice_ticks(0.5, 0.5, 4)[0] < 0.5 < nice_ticks(0.5, 0.5, 4)[-1]
    assert ticks_within(0, 240, 7) == [0, 50, 100, 150, 200]
    assert tick_digits([0.0, 0.25, 0.5]) == 2
    assert tick_digits([0.0, 20.0]) == 0
    assert Scale(0, 1, 10, 20)(2) == 20


def test_numbers_are_written_for_people() -> None:
    assert decimal(-0.001) == "0.00"
    assert decimal(-1234.5, 1) == "\u22121,234.5"
    assert points(0.0123) == "+1.2"
    assert percent(0.4125) == "41.2\u202f%"
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined([]) == ""


def test_an_analysis_is_the_beginning_of_hinted_decoding_in_the_flow_and_a_row_in_its_table() -> None:
    own = CascadePhase(phase=Phase.SELF_ALIGN, num_problems=10, num_solved=4, num_samples=20, num_tokens=900)
    analysis = CascadePhase(phase=Phase.ANALYSIS, num_problems=6, num_solved=0, num_samples=6, num_tokens=300)
    hinted = CascadePhase(phase=Phase.HINTED, num_problems=5, num_solved=2, num_samples=5, num_tokens=100)
    sources = {Source.OWN: 4, Source.HINTED: 2, Source.EXPERT: 4}
    cascade = Cascade(
        phases=(own, analysis, hinted), sources=sources, num_pairs=5, num_pairs_redone=2, num_pairs_apart=1
    )
    whole = replace(hinted, num_problems=6, num_tokens=400)
    assert cascade.solving_phases == (own, whole)
    assert cascade.num_tokens == 1300
    page = render(replace(sample_report(), cascade=cascade))
    assert "200 tokens a row" in page
    assert "Analysis for a hint" in page
    assert "5 pairs of contexts; 2 times a pair fell" in page
    nothing_opened = replace(cascade, phases=(own, analysis))
    assert nothing_opened.solving_phases[1] == replace(analysis, phase=Phase.HINTED, num_samples=0)


def test_terminal_tables_have_the_same_numbers() -> None:
    report = sample_report()
    rows = comparison_rows(report)
    assert all(len(row) == len(COMPARISON_HEADER) for row in rows)
    assert [row[1] for row in rows] == ["base", "sft", "dft", "dr+sft", "dr+dft"]
    assert source_rows(report)[0][:2] == ("own", "287")
    assert source_rows(EMPTY) == []


def test_short_trainings_have_whole_and_different_ticks() -> None:
    assert step_ticks(1, 3, 7) == [1, 2, 3]
    assert step_ticks(1, 1, 7) == [1]
    assert step_ticks(1, 87, 7) == [10, 20, 30, 40, 50, 60, 70, 80]
    for last in range(1, 200):
        ticks = step_ticks(1, last, 7)
        assert ticks == sorted(set(ticks))
        assert 1 <= ticks[0] <= ticks[-1] <= last


def test_a_training_of_one_step_can_be_seen() -> None:
    curves = merge_seeds([LossCurve(arm="sft", seed=0, points=((1, 0.5),))])
    assert 'class="dot c1"' in draw_losses(curves, {"sft": 1}, width=600).markup("")


def test_the_gap_says_what_rewriting_changed() -> None:
    gap = sample_report().gap
    assert gap is not None
    phi, weight = (
        gap_findings.phi_finding(gap.summary).sentence,
        gap_findings.weight_finding(gap.summary).sentence,
    )
    assert re.fullmatch(r"φ̄ moves from −\S+ for the demonstrations to −\S+ for what is kept\.", phi)
    assert re.fullmatch(r"DFT would leave \d+.% of the demonstrations' tokens in effect and \d+.% .*", weight)
    alone = replace(gap.summary, groups=gap.summary.groups[:1])
    assert gap_findings.phi_finding(alone).sentence.startswith("The texts' φ̄ is")
    assert "<h3>How many tokens each objective" in render(
        replace(sample_report(), gap=replace(gap, summary=alone))
    )


def test_shares_of_unlikely_tokens_are_counted_by_bins() -> None:
    one = TokenProbabilities(
        arm="dft", log10_edges=(-3.0, -2.0, -1.0, 0.0), before=(2, 3, 5), after=(0, 1, 9)
    )
    assert [one.share_below(-1.0, counts) for counts in (one.before, one.after)] == [0.5, 0.1]
    finding = probability_finding([one, replace(one, arm="sft", after=(0, 0, 10))])
    assert finding is not None
    assert finding.sentence.replace("\u202f", " ") == (
        "Of the training tokens 50.0 % before and 0.0 % after sft; 50.0 % before and 10.0 % after dft have a "
        "probability below 0.1."
    )
    assert probability_finding([]) is None
