"""The gap report: far rows, chosen rows, heat maps, and its way through JSON."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from drsft.gap.report import GapReport, HeatMap, Token, gap_report, outlying_rows, rows_to_show
from drsft.gap.scored_texts import Role, texts_of_records
from drsft.gap.text_scoring import score_table
from drsft.gap.tokens import token_texts
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Record,
    Rollout,
    Source,
    Verdict,
)
from drsft.report.heat_colours import heat_class
from drsft.report.html.page import render_gap
from drsft.run.tables import records_to_table
from tests.support.gap import Scored, scored_rows

RNG = np.random.default_rng(4)
OWN = [Scored(row_id=f"p{i}", source="own", logprobs=list(-1 + 0.1 * RNG.normal(size=20))) for i in range(50)]
STRANGE = Scored(row_id="strange", source="expert", logprobs=[-6.0] * 20)


def test_the_strange_row_is_far_out_and_no_other() -> None:
    far = outlying_rows(scored_rows([*OWN, STRANGE]))
    assert far is not None
    assert (far.num_rows, far.by_source) == (1, {"expert": 1})
    assert far.worst[0].row_id == "strange"
    assert far.worst[0].mean_phi == pytest.approx(-5)


def test_rows_that_are_all_alike_have_none_far_out() -> None:
    nearly = [
        Scored(row_id=str(i), source="own", logprobs=[-1.0 - (0.001 if i == 7 else 0)]) for i in range(20)
    ]
    far = outlying_rows(scored_rows(nearly))
    assert far is not None
    assert far.num_rows == 0
    assert outlying_rows(scored_rows([])) is None


def test_typical_and_farthest_rows_are_shown() -> None:
    sample = Scored(row_id="s", source="own", logprobs=[-9.0], role=Role.SAMPLE)
    shown = rows_to_show(scored_rows([*OWN, STRANGE, sample]))
    assert {(row.source, row.why) for row in shown} == {
        ("own", "typical"), ("own", "farthest"), ("expert", "farthest"),
    }  # fmt: skip
    phis = {row.row_id: float(np.mean(row.logprobs)) + 1 for row in OWN}
    farthest = next(row for row in shown if row.source == "own" and row.why == "farthest")
    assert farthest.row_id == min(phis, key=lambda name: phis[name])


def _report() -> GapReport:
    rows = scored_rows([*OWN, STRANGE])
    report = gap_report(model="m", rows=rows)
    tokens = (Token(text="<b>4", logprob=-0.1, entropy=0.2), Token(text="2", logprob=-7.0, entropy=0.5))
    heat = HeatMap(row=rows_to_show(rows)[0], tokens=tokens)
    return GapReport(
        summary=report.summary,
        recommendation=report.recommendation,
        far_out=report.far_out,
        heat_maps=(heat,),
    )


def test_the_report_survives_json() -> None:
    report = _report()
    assert GapReport.from_json(report.to_json()) == report


def test_the_page_shows_shades_and_escapes_tokens() -> None:
    page = render_gap(_report(), title="mine & yours")
    assert "mine &amp; yours" in page
    assert "&lt;b&gt;4" in page
    assert "<b>4" not in page
    assert 'class="h-5"' in page
    assert "style=" not in page.partition("</style>")[2], "the policy allows no style attributes"


@pytest.mark.parametrize(
    ("phi", "name"), [(0.4, ""), (-1.0, ""), (-1.01, "h-1"), (-3.5, "h-3"), (-80, "h-5")]
)
def test_shades_follow_the_thresholds(phi: float, name: str) -> None:
    assert heat_class(phi) == name


def test_token_texts_join_to_the_text_and_split_no_character() -> None:
    pieces = [b"4", b"\xe2\x88", b"\x92", b" 2", b"\xff"]

    def decode(ids: list[int]) -> str:
        return b"".join(pieces[i] for i in ids).decode(errors="replace")

    texts = token_texts(range(5), decode)
    assert texts == ["4", "", "−", " 2", "\ufffd"]


def _attempt(index: int, ids: tuple[int, ...], number: int = 1) -> Attempt:
    completion = Completion(
        token_ids=ids, text="x", behaviour_logprobs_T=None, finish_reason=FinishReason.STOP
    )
    rollout = Rollout(
        phase=Phase.SELF_ALIGN,
        sample_index=index,
        seed=0,
        prompt_hash="",
        completion=completion,
        round=number,
    )
    return Attempt(rollout=rollout, verdict=Verdict(outcome=Outcome.WRONG, reason="r"))


def test_records_give_kept_texts_demonstrations_and_the_first_sample() -> None:
    problem = Problem(problem_id="p", question="q", demonstration="d", reference="1")
    also = Completion(token_ids=(8,), text="y", behaviour_logprobs_T=None, finish_reason=FinishReason.STOP)
    record = Record(
        problem=problem,
        source=Source.OWN,
        prompt_ids=(1, 2),
        completion_ids=(7,),
        text="x",
        behaviour_logprobs_T=None,
        attempts=(_attempt(1, (5,)), _attempt(0, (6,))),
        expert_completion_ids=(9, 9),
        further_completions=(also,),
    )
    texts = list(texts_of_records(records_to_table([record]), number=1))
    found = [(text.role, text.index, text.source, list(text.completion_ids)) for text in texts]
    assert found == [
        (Role.KEPT, 0, "own", [7]),
        (Role.KEPT, 1, "own", [8]),
        (Role.DEMONSTRATION, 0, "expert", [9, 9]),
        (Role.SAMPLE, 0, "own", [6]),
    ]
    assert all(list(text.prompt_ids) == [1, 2] for text in texts)


def test_the_sample_of_a_later_round_is_its_own_targets() -> None:
    problem = Problem(problem_id="again", question="q", demonstration="d", reference="1")
    before, fresh, lucky = _attempt(0, (5,)), _attempt(0, (6,), number=2), _attempt(1, (7,), number=2)
    again = Record(
        problem=problem,
        source=Source.REWRITTEN,
        prompt_ids=(1,),
        completion_ids=(4,),
        text="x",
        behaviour_logprobs_T=None,
        attempts=(before, fresh, lucky),
        expert_completion_ids=(9,),
    )
    carried = replace(again, problem=replace(problem, problem_id="carried"), attempts=(before,))
    new = replace(again, problem=replace(problem, problem_id="new"), attempts=(fresh, lucky), round=2)
    table = records_to_table([again, carried, new])

    def samples(records: pa.Table, number: int) -> dict[str, list[int]]:
        texts = texts_of_records(records, number=number)
        return {text.row_id: list(text.completion_ids) for text in texts if text.role is Role.SAMPLE}

    assert samples(table, 1) == {"again": [5], "carried": [5]}
    assert samples(table, 2) == {"again": [6], "new": [6]}
    rows = table.to_pylist()
    for row in rows:
        for attempt in row["attempts"]:
            del attempt["round"]
    assert samples(pa.Table.from_pylist(rows), 2) == {"new": [6]}, "schema 2: by the record's own round"
    for row in rows:
        del row["round"]
    assert samples(pa.Table.from_pylist(rows), 1).keys() == {"again", "carried", "new"}, "schema 1: no rounds"


def test_columns_of_a_row_by_hand() -> None:
    rows = scored_rows([Scored(row_id="a", source="own", logprobs=[-1.0, -5.0], entropy=0.5)])
    (row,) = rows.to_pylist()
    assert (row["num_tokens"], row["mean_logprob"], row["mean_entropy"], row["mean_phi"]) == (
        2,
        -3.0,
        0.5,
        -2.5,
    )
    assert [row[f"phi_below_{n}"] for n in (1, 3, 5)] == [0.5, 0.5, 0.0]
    assert score_table([], []).num_rows == 0
