"""Takes the pictures of docs/images that show pages: a run's report, and the page of a service that is up.

python -m tests.studies.screenshots [--run RUN] [--service http://127.0.0.1:8700] [--out docs/images]
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from serve.api import RewriteRequest
from tests.studies.report_page import OPTIONS, find_browser

WIDTH, HEIGHT = 1280, 1400  # pixels
ANSWER_MS = 120_000  # the first request pays for what the engine sets up late


def take_report(browser: Any, url: str, path: Path) -> None:
    """Writes the first screen of the report, in light colours, at desktop width."""
    context, page = _open(browser, url)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    context.close()


def take_service(browser: Any, url: str, path: Path) -> None:
    """Writes the service's page with its answer to the contract's first example."""
    context, page = _open(browser, url)
    example = RewriteRequest.model_config["json_schema_extra"]["examples"][0]  # type: ignore[call-overload,index]
    for field, name in (("problem", "problem"), ("reference", "reference"), ("expert", "expert_solution")):
        page.fill(f"#{field}", example[name])
    page.click("#start")
    page.wait_for_selector("#outcome:not([hidden])", timeout=ANSWER_MS)
    page.screenshot(path=path, full_page=True)
    context.close()


def _open(browser: Any, url: str) -> tuple[Any, Any]:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page = context.new_page()
    page.goto(url)
    return context, page


def main(
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The folder of a run with a report.")
    ] = None,
    service: Annotated[str | None, typer.Option(metavar="URL", help="A service that is up.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("docs/images"),
) -> None:
    """Takes the picture of the report where a run is named, and of the service's page where a service is."""
    playwright, chromium = find_browser()
    out.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        if run is not None:
            take_report(browser, (run / "report/index.html").absolute().as_uri(), out / "report.png")
        if service is not None:
            take_service(browser, service, out / "service.png")
        browser.close()


if __name__ == "__main__":
    typer.run(main)
