"""The report in a real browser: headless Chromium at desktop and phone width, light and dark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from drsft.report.page import render

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
def sample() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        import test_report_sample

        yield test_report_sample


@pytest.fixture(scope="module")
def report(sample: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample.sample_report()), encoding="utf-8")
    return path


class Visit:
    """One open page with everything it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, viewport: dict[str, int], scheme: str) -> None:
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def shown(self) -> list[str]:
        """Sources of the examples that are visible."""
        return list(
            self.page.eval_on_selector_all(
                ".example:not([hidden])", "elements => elements.map(element => element.dataset.source)"
            )
        )


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
    assert set(visit.shown()) == {"own"}
    visit.page.keyboard.press("ArrowRight")
    assert set(visit.shown()) == {"rewritten"}
    assert visit.page.inner_text("#num-shown") == f"{len(visit.shown())} of 12 shown"


def test_search_works_by_keyboard(visit: Visit) -> None:
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("CHLOË")
    assert len(visit.shown()) == 2
    visit.page.keyboard.type(" nobody")
    assert visit.shown() == []
    assert visit.page.is_visible("#no-matches")
    visit.page.keyboard.press("Escape")
    assert len(visit.shown()) == 12
    assert visit.complaints == []


def test_everything_that_works_can_be_reached_by_tab(visit: Visit) -> None:
    reached = set()
    for _ in range(120):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()")
        )
    assert {"a", "summary", "input", "search", "pre"} <= reached


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


def test_a_script_in_a_solution_stays_text(browser: Any, sample: ModuleType, tmp_path: Path) -> None:
    data = sample.sample_report()
    attack = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    path = tmp_path / "attack.html"
    path.write_text(
        render(replace(data, name=attack, examples=(replace(data.examples[0], kept_text=attack),))),
        encoding="utf-8",
    )
    visit = Visit(browser, path, VIEWPORTS["desktop"], "light")
    assert "taken'" in visit.page.text_content(".solution.s-own")
    assert visit.page.title() != "taken"
    assert visit.complaints == []
    visit.page.close()
