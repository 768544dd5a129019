"""Texts of data stay texts: a page has the same elements and attributes whatever they say."""

import base64
import gzip
import json
import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drsft.report.html.compare_page import render_comparison
from drsft.report.html.page import render, render_gap
from tests.fuzz.doors import TALLY, rarely
from tests.report.test_run_comparison import _arm, _compared
from tests.support.report_sample import sample_report

MARKUP = st.sampled_from(
    [
        *(
            "<script>alert(1)</script>",
            "</script><script>",
            "<img src=x onerror=alert(1)>",
            "\" onload='x'",
            "'>",
        ),
        *(
            "</style><style>*{}",
            "<!--",
            "-->",
            "]]>",
            "&lt;b&gt;",
            "&#60;b&#62;",
            "{{ 7*7 }}",
            "{% raw %}",
            "javascript:x",
        ),
        *(
            "</svg><svg onload=x>",
            "</textarea>",
            "\u202e",
            "\x00",
            "\ud83d\ude00",
            "<a href=//x>",
            "`${x}`",
            "</title>",
        ),
    ]
)
ATTACK = st.builds("".join, st.lists(MARKUP | st.text(max_size=5), min_size=1, max_size=5))
# What the sample itself is told apart by must stay what it is; everything else is text of data.
KEPT = {"token_ids", "benchmark", "source", "outcome", "seed", "rows", "advice", "data", "objective", "group"}


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def elements(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Elements()
    parser.feed(page)
    return parser.found


def marked(value: Any, text: str) -> Any:
    """The same record with `text` before each of its texts."""
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            one.name: marked(getattr(value, one.name), text) for one in fields(value) if one.name not in KEPT
        }
        return replace(value, **changes)
    if isinstance(value, str) and not isinstance(value, Enum):
        return text + value
    if isinstance(value, tuple | list):
        return type(value)(marked(one, text) for one in value)
    return value


def _same_elements(door: str, make: Any, attack: str) -> str:
    TALLY[door]["examples"] += 1
    page = make(attack)
    assert elements(page) == elements(make("x" * len(attack)))
    TALLY[door]["taken"] += 1
    return str(page)


def _report(text: str) -> str:
    report = sample_report()
    parts = {
        name: marked(getattr(report, name), text)
        for name in (
            "run_id",
            "name",
            "created",
            "config_yaml",
            "problems",
            "comparison",
            "losses",
            "differences",
        )
    }
    return render(replace(report, **parts, versions={text: text}, fingerprints={text: text}))


@rarely(0.1)
@given(attack=ATTACK)
def test_the_report(attack: str) -> None:
    _same_elements("report", _report, attack)


@rarely(0.1)
@given(attack=ATTACK)
def test_the_comparison(attack: str) -> None:
    def page(text: str) -> str:
        arm = replace(_arm("dft", 0.01, 0.05), arm=text, benchmark=text)
        return render_comparison(replace(_compared(arm), first=text, second=f"{text}2", only_first=(text,)))

    _same_elements("comparison of runs", page, attack)


@rarely(0.1)
@given(attack=ATTACK)
def test_the_gap_report(attack: str) -> None:
    gap = sample_report().gap
    assert gap is not None
    _same_elements("gap report", lambda text: render_gap(gap, title=text), attack)


@rarely(0.1)
@given(attack=ATTACK)
def test_rows_come_packed_and_as_they_are(attack: str) -> None:
    report = sample_report()
    row = replace(report.rows[0], question=attack, reference=attack, reason=attack, problem_id=attack)

    def page(text: str) -> str:
        return render(replace(report, rows=(row,) if text == attack else (report.rows[0],)))

    found = re.search(
        r'id="packed-rows">([A-Za-z0-9+/=]*)</script>', _same_elements("rows of the report", page, attack)
    )
    assert found is not None
    [shown] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    assert (shown["question"], shown["reference"], shown["reason"], shown["id"]) == (attack,) * 4
