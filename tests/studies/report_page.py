"""How large the report is with many rows, and how fast a browser opens and searches it.

The rows hold text of the embedded problems, different in every row, with a φ for every token.
"""

import re
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from drsft.errors import SetupError
from drsft.records import Outcome, Phase, Source
from drsft.report.cascade_counts import Cascade
from drsft.report.data import AttemptShown, BrowsedRow, ProblemCounts, ReportData, ShownText
from drsft.report.html.page import render
from tests.base_model.task import Split, WordProblem, make_problems

__all__ = ["Opening", "bench_report", "browsed_rows", "find_browser", "print_openings"]

PIECE, PIECE_CHARS = re.compile(r"\s?\S{1,4}"), 4  # about as long as a token
SOURCES = (Source.OWN, Source.REWRITTEN, Source.OWN, Source.EXPERT)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
SEARCH = """word => {
  const field = document.getElementById("search"), began = performance.now();
  field.value = word;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return performance.now() - began;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One page in a fresh browser context; the first search makes the index, the second has it."""

    size_mb: float
    open_s: float  # from the request for the file until rows are drawn
    first_search_s: float
    search_s: float
    status: str  # what the page says about the rows that it carries


def bench_report(
    *, num_rows: int, num_tokens: int, num_attempts: int, num_rounds: int
) -> tuple[float, list[Opening]]:
    """Seconds to render the page, and how it opened. Raises SetupError without playwright or a Chromium."""
    playwright, chromium = find_browser()
    rows = browsed_rows(num_rows, num_tokens=num_tokens, num_attempts=num_attempts)
    sources = {source: sum(row.source is source for row in rows) for source in Source}
    data = ReportData(
        run_id="bench",
        name="bench",
        created="",
        config_yaml="",
        problems=ProblemCounts(num_read=num_rows),
        cascade=Cascade(phases=(), sources=sources),
        rows=rows,
    )
    began_s = time.perf_counter()
    page = render(data)
    render_s = time.perf_counter() - began_s
    with tempfile.TemporaryDirectory() as folder, playwright.sync_playwright() as running:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        browser = running.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        openings = [_opened(browser, path) for _ in range(num_rounds)]
        browser.close()
    return render_s, openings


def find_browser() -> tuple[ModuleType, str]:
    try:
        import playwright.sync_api as playwright
    except ImportError as error:
        raise SetupError("playwright is missing: pip install 'drsft[dev]'") from error
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise SetupError("no Chromium on this machine: apt-get install -y chromium")
    return playwright, chromium


def _opened(browser: Any, path: Path) -> Opening:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    began_s = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-rows=drawn]")
    open_s = time.perf_counter() - began_s
    first_ms, again_ms = (page.evaluate(SEARCH, word) for word in ("zebra", "marbles 4"))
    page.evaluate(SEARCH, "")
    status = page.inner_text("#num-shown")
    page.close()
    return Opening(
        size_mb=path.stat().st_size / 1e6,
        open_s=open_s,
        first_search_s=first_ms / 1000,
        search_s=again_ms / 1000,
        status=status,
    )


def browsed_rows(num_rows: int, *, num_tokens: int, num_attempts: int) -> tuple[BrowsedRow, ...]:
    """Texts of about `num_tokens` tokens; a fourth is never solved, in the others half are right."""
    rng = np.random.default_rng(0)
    # Drawn at random from a few hundred kB, they are farther apart than the 32 kB that gzip looks back.
    sentences = [problem.demonstration for problem in make_problems(Split.TRAIN, 5000)]

    def text() -> str:
        parts: list[str] = []
        while sum(map(len, parts)) < PIECE_CHARS * num_tokens:
            parts.append(sentences[int(rng.integers(len(sentences)))])
        return " ".join(parts)[: PIECE_CHARS * num_tokens]

    def attempt(number: int, source: Source, answer: str) -> AttemptShown:
        is_right = source is not Source.EXPERT and number % 2 == 0
        return AttemptShown(
            phase=Phase.GUIDED if source is Source.REWRITTEN else Phase.SELF_ALIGN,
            outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
            reason="equal as numbers" if is_right else "answer differs from the reference",
            text=text(),
            num_tokens=num_tokens,
            answer=answer if is_right else str(rng.integers(100)),
        )

    def row(index: int, problem: WordProblem) -> BrowsedRow:
        source = SOURCES[index % len(SOURCES)]
        attempts = tuple(attempt(number, source, problem.answer) for number in range(num_attempts))
        return BrowsedRow(
            problem_id=problem.problem_id,
            question=problem.question,
            reference=problem.answer,
            expert=_shaded(text(), rng),
            kept=None if source is Source.EXPERT else _shaded(attempts[0].text, rng),
            source=source,
            reason="equal as numbers",
            attempts=attempts,
        )

    return tuple(row(*one) for one in enumerate(make_problems(Split.BASE, num_rows)))


def _shaded(text: str, rng: np.random.Generator) -> ShownText:
    pieces = tuple(PIECE.findall(text))
    phis = 0.3 - rng.exponential(0.8, len(pieces))
    return ShownText(text="".join(pieces), pieces=pieces, phis=tuple(phis.tolist()))


def print_openings(render_s: float, openings: list[Opening]) -> None:
    table = Table(title=f"The report's page: {openings[0].status}, {openings[0].size_mb:.1f} MB")
    table.add_column("what")
    for head in ("median", "lowest", "highest"):
        table.add_column(head, justify="right")
    measured = {
        "rendering, s": [render_s],
        "opening until rows are drawn, s": [one.open_s for one in openings],
        "first search, s": [one.first_search_s for one in openings],
        "another search, s": [one.search_s for one in openings],
    }
    for name, values in measured.items():
        table.add_row(
            name, *(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
        )
    Console(width=100).print(table)


def main(
    rows: Annotated[int, typer.Option(min=4, help="Rows that the page carries.")] = 10_000,
    tokens: Annotated[int, typer.Option(min=1, help="Of each text.")] = 100,
    attempts: Annotated[int, typer.Option(min=1, help="At each problem.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh pages; medians are printed.")] = 5,
) -> None:
    """How large the report is with many rows, and how fast a headless Chromium opens and searches it."""
    print_openings(*bench_report(num_rows=rows, num_tokens=tokens, num_attempts=attempts, num_rounds=rounds))


if __name__ == "__main__":
    typer.run(main)
