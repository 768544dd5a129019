"""The rows of the report: packed whole, cut where there is no room, and read from a run's records."""

import base64
import gzip
import json
import random
from dataclasses import replace

import pytest

from drsft.report.data import BrowsedRow, ShownText
from drsft.report.html.packed_rows import PackedRows, pack_rows
from drsft.report.html.page import render
from tests.support.report_sample import sample_report


def _unpacked(payload: PackedRows) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(gzip.decompress(base64.b64decode(payload.base64)))
    return rows


def _noise(number: int, size: int) -> str:
    return base64.b64encode(random.Random(number).randbytes(size)).decode()


def test_rows_come_back_as_they_were() -> None:
    rows = sample_report().rows
    payload = pack_rows(rows)
    found = _unpacked(payload)
    assert (payload.num_rows, payload.num_brief) == (len(rows), 0)
    assert [row["id"] for row in found] == [row.problem_id for row in rows]
    assert [row["question"] for row in found] == [row.question for row in rows]
    assert [len(row["attempts"]) for row in found] == [len(row.attempts) for row in rows]


def test_no_rows_are_an_empty_list() -> None:
    assert _unpacked(pack_rows(())) == []


@pytest.mark.parametrize("pieces", [("a", "𝒳", "", "é"), ("𝒳𝒴", "b"), ("\U0001f600", " 2")])
def test_cuts_are_counted_as_a_browser_counts(pieces: tuple[str, ...]) -> None:
    row = replace(
        sample_report().rows[0],
        expert=ShownText(
            text="".join(pieces), pieces=pieces, phis=tuple(-0.26 * n for n in range(len(pieces)))
        ),
    )
    expert = _unpacked(pack_rows([row]))[0]["expert"]
    assert isinstance(expert, dict)
    units = expert["text"].encode("utf-16-le")
    found, at = [], 0
    for length in expert["cuts"]:
        found.append(units[2 * at : 2 * (at + length)].decode("utf-16-le"))
        at += length
    assert tuple(found) == pieces
    assert expert["phi"][:2] == [0, -3]


def test_what_does_not_fit_is_cut_from_the_end_and_counted() -> None:
    first = sample_report().rows[0]

    def row(number: int) -> BrowsedRow:
        attempts = tuple(replace(one, text=_noise(number, 3000)) for one in first.attempts)
        return replace(first, problem_id=str(number), question=_noise(-number, 1500), attempts=attempts)

    limit = 400_000
    payload = pack_rows(map(row, range(1000)), max_bytes=limit)
    found = _unpacked(payload)
    assert [one["id"] for one in found] == [str(number) for number in range(payload.num_rows)]
    assert limit <= len(base64.b64decode(payload.base64)) < limit + 50_000
    texts = [attempt["text"] for one in found for attempt in one["attempts"]]  # type: ignore[attr-defined]
    assert texts[0] is not None
    assert texts[-1] is None
    assert payload.num_brief == sum(one["attempts"][0]["text"] is None for one in found)  # type: ignore[index]


def test_the_page_says_what_it_left_out() -> None:
    report = sample_report()
    assert "The first 12 rows of 512" in render(report)
    whole = replace(report, cascade=None)
    assert "The first" not in render(whole)


def test_packed_rows_hold_no_markup() -> None:
    attack = "</script><script>alert(1)</script>"
    row = replace(sample_report().rows[0], question=attack, kept=ShownText(text=attack))
    page = render(replace(sample_report(), rows=(row,)))
    assert "alert(1)" not in page
