"""Real services for the tests, each started on loopback with ports and folders of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.object_store import ObjectStore, missing_programs, running_ceph


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Ceph's RADOS Gateway with one empty bucket; skipped where it is not installed."""
    if missing := missing_programs():
        pytest.skip(f"no S3 server: {', '.join(missing)} not installed (Debian: radosgw ceph-mon ceph-osd)")
    with running_ceph("drsft-test") as ceph:
        yield ObjectStore(url="s3://drsft-test", bucket="drsft-test", environment=ceph.environment)


@pytest.fixture(scope="module")  # playwright keeps an event loop running: other files need theirs
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install playwright"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install -y chromium")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = running.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page in a context of its own, at desktop width."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: the folder that DRSFT_SCREENSHOTS names, to be looked at, or a passing one."""
    named = os.environ.get("DRSFT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
