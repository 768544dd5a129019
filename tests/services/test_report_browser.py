"""The report in a real browser: headless Chromium at desktop and phone width, light and dark."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from drsft.config import RunConfig
from drsft.evaluate.paired import PairedDifference
from drsft.report.html.compare_page import render_comparison
from drsft.report.html.live import LiveReport, served
from drsft.report.html.page import render
from drsft.report.run_comparison import ArmOfBoth, Figure, RunComparison
from drsft.run.shards import ShardSet
from drsft.run.tables import records_to_table
from drsft.storage import open_store
from tests.support import report_sample

pytestmark = pytest.mark.services

VIEWPORTS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
# Texts with too little contrast, as (ratio, needed, text). WCAG AA: 3 for large or bold text, else 4.5.
CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.matches("script, .on-share, title")) continue;
    const style = getComputedStyle(element);
    const text = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(text), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 600) ? 3 : 4.5;
    if (ratio < needed) poor.push([ratio, needed, element.textContent.trim().slice(0, 40)]);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report_sample.sample_report()), encoding="utf-8")
    return path


class Visit:
    """One open page with everything it complained about or asked for.

    What a key does, the page may do in a later task of its loop: after a key, `expect` waits for it.
    """

    def __init__(self, browser: Any, path: Path, viewport: dict[str, int], scheme: str) -> None:
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-rows=drawn]")

    def rows(self, source: str = "") -> Locator:
        """The examples that are visible, all or those of one source."""
        return self.locator(f"article.row[data-source={source}]" if source else "article.row")

    def locator(self, selector: str) -> Locator:
        found: Locator = self.page.locator(selector)
        return found

    def expect_only(self, source: str) -> None:
        """Waits until examples of one source are shown, and no others."""
        expect(self.rows(source)).not_to_have_count(0)
        expect(self.locator(f"article.row:not([data-source={source}])")).to_have_count(0)


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    visit = Visit(browser, report, VIEWPORTS["desktop"], "light")
    yield visit
    visit.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", VIEWPORTS)
def test_page_opens_quietly_and_fits(
    browser: Any, report: Path, tmp_path: Path, size: str, scheme: str
) -> None:
    visit = Visit(browser, report, VIEWPORTS[size], scheme)
    visit.page.screenshot(path=tmp_path / f"report-{size}-{scheme}.png", full_page=True)
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wanted = "wide" if size == "desktop" else "narrow"
    visible = visit.page.eval_on_selector_all(
        ".chart", "charts => charts.filter(c => c.checkVisibility()).map(c => c.classList[1])"
    )
    assert set(visible) == {wanted}
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert visit.page.evaluate(CONTRAST) == []
    paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 23, 28)") == (scheme == "dark")
    visit.page.close()


def test_source_filter_works_by_keyboard(visit: Visit) -> None:
    visit.page.focus("input[name=source]:checked")
    visit.page.keyboard.press("ArrowRight")
    visit.expect_only("own")
    visit.page.keyboard.press("ArrowRight")
    visit.expect_only("rewritten")
    expect(visit.locator("#num-shown")).to_have_text(f"{visit.rows().count()} of 12 rows")


def test_verdict_and_reason_filter_by_keyboard(visit: Visit) -> None:
    visit.page.focus("#outcome")
    visit.page.keyboard.type("trunc")
    visit.expect_only("expert")
    visit.page.keyboard.press("Tab")
    expect(visit.locator("#reason")).to_be_focused()
    visit.page.keyboard.type("answer differs")
    expect(visit.rows(), "the reason and the verdict must meet in one attempt").to_have_count(0)
    visit.page.focus("#outcome")
    visit.page.keyboard.press("Home")
    expect(visit.rows()).to_have_count(12)


def test_tokens_are_shaded_until_that_is_switched_off(visit: Visit) -> None:
    shaded = visit.locator("#drawn-rows [class^=h-]")
    before = visit.page.inner_text("article.row .solution")
    assert shaded.count() > 20
    assert (shaded.first.get_attribute("title") or "").startswith("φ \u2212")
    visit.page.focus("#heat")
    visit.page.keyboard.press("Space")
    expect(shaded).to_have_count(0)
    assert visit.page.inner_text("article.row .solution") == before


def test_attempts_unfold_by_keyboard(visit: Visit) -> None:
    visit.page.focus("article.row summary")
    visit.page.keyboard.press("Enter")
    expect(visit.locator("article.row .attempts li")).to_have_count(2)
    expect(visit.locator("article.row .attempts").first).to_contain_text("Wrong · Self-alignment")


def test_search_works_by_keyboard(visit: Visit) -> None:
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("CHLOË")
    expect(visit.rows()).to_have_count(2)
    visit.page.keyboard.type(" nobody")
    expect(visit.rows()).to_have_count(0)
    expect(visit.locator("#no-matches")).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(visit.rows()).to_have_count(12)
    assert visit.complaints == []


def test_everything_that_works_can_be_reached_by_tab(visit: Visit) -> None:
    reached = set()
    for _ in range(120):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()")
        )
    assert {"a", "summary", "input", "search", "outcome", "reason", "heat", "pre"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", VIEWPORTS)
def test_axe_finds_nothing(browser: Any, report: Path, size: str, scheme: str) -> None:
    """Roles, names, headings, tables, contrast: axe-core's rules, with every table unfolded."""
    bundle = pytest.importorskip(
        "axe_playwright_python", reason="axe-core is missing: pip install axe-playwright-python"
    )
    # The page's own policy forbids scripts from elsewhere, axe's included.
    context = browser.new_context(bypass_csp=True, viewport=VIEWPORTS[size], color_scheme=scheme)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-rows=drawn]")
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.add_script_tag(path=Path(bundle.__file__).with_name("axe.min.js"))
    found = page.evaluate("axe.run()")
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    assert len(found["passes"]) > 20
    context.close()


def test_printing_is_light_and_leaves_the_controls_out(visit: Visit, tmp_path: Path) -> None:
    visit.page.emulate_media(media="print", color_scheme="dark")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not visit.page.is_visible("nav")
    assert not visit.page.is_visible("#browser")
    visit.page.pdf(path=tmp_path / "report.pdf", format="A4")


def test_a_script_in_a_solution_stays_text(browser: Any, tmp_path: Path) -> None:
    data = report_sample.sample_report()
    attack = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    path = tmp_path / "attack.html"
    row = replace(data.rows[0], question=attack, kept=report_sample.ShownText(text=attack))
    path.write_text(render(replace(data, name=attack, rows=(row,))), encoding="utf-8")
    visit = Visit(browser, path, VIEWPORTS["desktop"], "light")
    assert "taken'" in visit.page.text_content(".solution.s-own")
    assert visit.page.title() != "taken"
    assert visit.complaints == []
    visit.page.close()


def test_ten_thousand_rows_stay_small_and_are_all_searched(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    path.write_text(render(report_sample.sample_report(num_rows=10_000)), encoding="utf-8")
    assert path.stat().st_size < 15_000_000
    visit = Visit(browser, path, VIEWPORTS["desktop"], "light")
    expect(visit.locator("#num-shown")).to_have_text("10,000 of 10,000 rows")
    expect(visit.rows()).to_have_count(20)
    visit.page.focus("#more-rows")
    visit.page.keyboard.press("Enter")
    expect(visit.rows()).to_have_count(40)
    last = report_sample.sample_report(num_rows=10_000).rows[-1].problem_id
    visit.page.keyboard.press("/")
    visit.page.keyboard.type(last)
    expect(visit.locator("#num-shown")).to_have_text("1 of 10,000 rows")
    assert visit.complaints == []
    visit.page.close()


def test_a_live_page_shows_what_the_run_gains_and_stays_when_it_ends(browser: Any, tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {"name": "r", "storage": str(tmp_path), "problems": {"path": "p.jsonl"}, "target": {"model": "m"}}
    )
    store = open_store(config.storage).within(config.run_id)
    plan = {"path": "p.jsonl", "num_read": 2, "num_problems": 2, "num_duplicates": 0, "quarantined": {}}
    store.put("problems/plan.json", json.dumps(plan | {"shards": {"0": 1, "1": 1}, "digest": "d"}).encode())
    store.put("problems/quarantine.jsonl", b"")
    store.put("run.json", b'{"created": "now"}')
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    report = LiveReport(config)
    with served(report, port=0) as address:
        page.goto(address)
        expect(page.locator("#standing")).to_contain_text("rewriting 0 of 2 shards")
        ShardSet(store, "rewrite").commit("0", records_to_table([]), {"tokens": {}})
        page.get_by_text("rewriting 1 of 2 shards").wait_for(timeout=20_000)
        report.show_progress(["rewrite    3/16  12 in flight  80 tokens/s"])
        expect(page.locator("#progress")).to_have_text("rewrite    3/16  12 in flight  80 tokens/s")
        assert complaints == []
    page.get_by_text("The run has ended").wait_for(timeout=20_000)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_comparison_of_two_runs_opens_quietly(browser: Any, tmp_path: Path, scheme: str) -> None:
    bundle = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    difference = PairedDifference(value=0.03, low=0.01, high=0.05, num_problems=100, num_gained=9, num_lost=4)
    arm = ArmOfBoth(arm="dr+dft", benchmark="gsm", first=0.4, second=0.43, difference=difference)
    compared = RunComparison(
        first="a-1",
        second="b-2",
        arms=(arm, replace(arm, arm="sft", difference=replace(difference, low=-0.02))),
        only_first=(),
        only_second=("iw",),
        figures=(Figure(name="Problems", first="512", second=None),),
        settings=(Figure(name="seed", first="0", second="1"),),
    )
    path = tmp_path / "compared.html"
    path.write_text(render_comparison(compared), encoding="utf-8")
    context = browser.new_context(bypass_csp=True, viewport=VIEWPORTS["phone"], color_scheme=scheme)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.add_script_tag(path=Path(bundle.__file__).with_name("axe.min.js"))
    found = page.evaluate("axe.run()")
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    context.close()
