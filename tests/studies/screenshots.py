"""Takes the pictures of docs/images that show pages: a run's report, and the page of a service that is up.

python -m tests.studies.screenshots RUN [--service http://127.0.0.1:8700] [--out docs/images]
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from tests.studies.report_page import OPTIONS, find_browser

WIDTH, HEIGHT = 1280, 1400  # pixels


def take(browser: Any, url: str, path: Path) -> None:
    """Writes the first screen of a page, in light colours, at desktop width."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    context.close()


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run with a report.")],
    service: Annotated[str | None, typer.Option(metavar="URL", help="A service that is up.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("docs/images"),
) -> None:
    """Takes the pictures of the report, and of the service's page where a service is named."""
    playwright, chromium = find_browser()
    out.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        take(browser, (run / "report/index.html").absolute().as_uri(), out / "report.png")
        if service is not None:
            take(browser, service, out / "service.png")
        browser.close()


if __name__ == "__main__":
    typer.run(main)
