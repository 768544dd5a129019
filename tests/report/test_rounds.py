"""The rounds in the report: there when a run has several, with what they saved and honest about chance."""

from dataclasses import replace

from drsft.evaluate.paired import PairedDifference
from drsft.records import Source
from drsft.report.collect import cascade_of
from drsft.report.data import RoundScore, RoundShown
from drsft.report.findings.cascade import flow_finding
from drsft.report.findings.later_rounds import rounds_finding
from drsft.report.html.page import render
from drsft.report.terminal.result_rows import ROUNDS_HEADER, round_rows
from drsft.run.summary import ShardSummary
from tests.support.report_sample import sample_report


def shown(number: int, change: tuple[float, float] | None = None) -> RoundShown:
    difference = change and PairedDifference(
        value=sum(change) / 2, low=change[0], high=change[1], num_problems=90, num_gained=5, num_lost=2
    )
    return RoundShown(
        number=number,
        prefix="" if number == 1 else f"round-{number}-ab12cd34",
        sources={Source.OWN: 60 + number, Source.EXPERT: 40 - number},
        num_rewritten=100 if number == 1 else 39,
        num_carried=0 if number == 1 else 61,
        num_tokens=9000,
        num_tokens_saved=0 if number == 1 else 6461,
        scores=(RoundScore(benchmark="gsm", avg_at_k=0.5, low=0.4, high=0.6, change=difference),),
    )


def test_rounds_are_shown_with_what_they_saved_and_link_to_their_own_reports() -> None:
    data = replace(sample_report(), rounds=(shown(1), shown(2, (0.01, 0.05))))
    page = render(data).replace("\u202f", " ")
    assert 'id="rounds"' in page
    assert 'href="../round-2-ab12cd34/report/index.html"' in page
    assert "6 461" in page or "6,461" in page
    assert all(len(row) == len(ROUNDS_HEADER) for row in round_rows(data))


def test_a_run_with_one_round_says_nothing_of_rounds() -> None:
    assert 'id="rounds"' not in render(sample_report())
    assert rounds_finding([shown(1)]) is None


def test_shares_of_a_later_round_are_of_all_its_rows_and_the_flow_of_what_it_sampled() -> None:
    summary = {
        "sources": {"own": 10, "expert": 30},
        "kept": {"own": 80, "rewritten": 10, "expert": 10},
        "carried": {"problems": 60, "tokens": 900},
        "problems": {"self_align": 40},
        "samples": {"self_align": 80},
        "tokens": {"self_align": 800},
        "solved": {"self_align": 10},
    }
    older = {name: value for name, value in summary.items() if name not in ("kept", "carried")}
    now, before = (cascade_of([ShardSummary.from_json(one)], beside=set()) for one in (summary, older))
    assert now is not None
    assert before is not None
    assert (now.share(Source.EXPERT), now.num_kept, now.num_carried) == (0.1, 100, 60)
    assert now.ends[Source.EXPERT] == before.ends[Source.EXPERT] == 30
    assert before.share(Source.EXPERT) == 0.75
    assert "60 rows are carried over from the round before" in flow_finding(now).detail


def test_what_may_be_chance_is_called_so() -> None:
    findings = {
        change: rounds_finding([shown(1), shown(2, change)]) for change in (None, (-0.1, 0.1), (0.01, 0.1))
    }
    sentences = [finding.sentence for finding in findings.values() if finding]
    assert sentences[0].startswith("Nothing has been evaluated")
    assert "beyond chance" in sentences[1]
    assert "1 are clear gains and 0 clear losses" in sentences[2]
