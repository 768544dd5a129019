"""Thought and answer in the gap report: its figures for each, against sums token by token."""

import json
import math
from io import StringIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from drsft.gap.report import GapReport, gap_report
from drsft.gap.scored_texts import PART_COLUMNS, ROW_COLUMNS, row_columns
from drsft.gap.summary import PartGap, summarise
from drsft.report.html.page import render_gap
from drsft.report.terminal.gap import gap_view
from tests.support.gap import Scored, scored_rows

LOGPROBS = st.lists(st.floats(-20, 0), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(LOGPROBS, st.integers(0, 8), st.floats(0, 5)), min_size=1, max_size=6)
MIXED = [
    Scored(row_id="a", source="own", logprobs=[-1.0, -2.0, -6.0], num_thought=2),
    Scored(row_id="b", source="own", logprobs=[-3.0], num_thought=0),
    Scored(row_id="c", source="expert", logprobs=[-5.0, -7.0], num_thought=0),
]


def scored(rows: list[tuple[list[float], int, float]]) -> list[Scored]:
    return [
        Scored(
            row_id=str(number),
            source="own",
            logprobs=logprobs,
            entropy=entropy,
            num_thought=min(length, len(logprobs)),
        )
        for number, (logprobs, length, entropy) in enumerate(rows)
    ]


@settings(deadline=None)
@given(rows=ROWS)
def test_parts_are_means_over_the_tokens_of_thoughts_and_of_answers(
    rows: list[tuple[list[float], int, float]],
) -> None:
    group = summarise(model="m", rows=scored_rows(scored(rows))).group("own")
    assert group is not None
    tokens: dict[str, list[tuple[float, float]]] = {"thought": [], "answer": []}
    for logprobs, length, entropy in rows:
        for place, logprob in enumerate(logprobs):
            tokens["thought" if place < length else "answer"].append((logprob, logprob + entropy))
    if not tokens["thought"]:
        assert group.parts == ()
        return
    assert [part.name for part in group.parts] == [name for name, found in tokens.items() if found]
    for part in group.parts:
        own = tokens[part.name]
        assert part.num_tokens == len(own)
        assert part.mean_logprob == pytest.approx(math.fsum(one[0] for one in own) / len(own), abs=1e-9)
        assert part.mean_phi == pytest.approx(math.fsum(one[1] for one in own) / len(own), abs=1e-9)


def test_only_groups_with_thoughts_have_parts() -> None:
    summary = summarise(model="m", rows=scored_rows(MIXED))
    parts = {group.name: group.parts for group in summary.groups}
    assert parts["own"] == (
        PartGap(name="thought", num_tokens=2, mean_logprob=-1.5, mean_phi=-0.5),
        PartGap(name="answer", num_tokens=2, mean_logprob=-4.5, mean_phi=-3.5),
    )
    assert parts["expert"] == ()
    assert [part.num_tokens for part in parts["kept"]] == [2, 4]


def test_scores_of_an_older_version_are_read_and_leave_their_groups_whole() -> None:
    new = row_columns(scored_rows(MIXED[:1]))
    old = row_columns(scored_rows(MIXED[2:]).drop_columns(list(PART_COLUMNS)))
    assert old.schema.names == [*ROW_COLUMNS, *PART_COLUMNS]
    report = gap_report(model="m", rows=pa.concat_tables([new, old]))
    parts = {group.name: len(group.parts) for group in report.summary.groups}
    assert parts == {"own": 2, "expert": 0, "kept": 0}


def test_a_stored_report_without_parts_is_read() -> None:
    report = gap_report(model="m", rows=scored_rows(MIXED))
    assert GapReport.from_json(report.to_json()) == report
    stored = json.loads(report.to_json())
    for group in stored["summary"]["groups"]:
        del group["parts"]
    assert all(group.parts == () for group in GapReport.from_json(json.dumps(stored)).summary.groups)


def shown(report: GapReport) -> tuple[str, str]:
    out = StringIO()
    Console(file=out, width=120).print(gap_view(report))
    return out.getvalue(), render_gap(report, title="t")


def test_terminal_and_page_show_the_parts_where_there_are_some() -> None:
    terminal, page = shown(gap_report(model="m", rows=scored_rows(MIXED)))
    assert any(line.split() == ["thought", "1.0", "-1.500", "-0.500"] for line in terminal.splitlines())
    assert ": thought</th>" in page
    assert "−0.500" in page
    terminal, page = shown(gap_report(model="m", rows=scored_rows([MIXED[2]])))
    assert "thought" not in terminal
    assert ": thought</th>" not in page
