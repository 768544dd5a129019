"""The live report: served on loopback alone, new when the run has something new, and gone with it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from drsft.config import RunConfig
from drsft.errors import ConfigError
from drsft.report.html.live import LiveReport, served
from drsft.report.progress import progress_of
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.storage import LocalStore, Store, open_store
from tests.report.test_costs import CONFIG

PLAN = Plan(
    path="p.jsonl", num_read=3, num_problems=3, num_duplicates=0, quarantined={},
    shards={"00000": 2, "00001": 1}, digest="d",
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return CONFIG.model_copy(update={"storage": str(tmp_path)})


def _store(config: RunConfig) -> Store:
    return open_store(config.storage).within(config.run_id)


def _plan(store: Store) -> None:
    store.put("problems/plan.json", json.dumps(asdict(PLAN)).encode())
    store.put("problems/quarantine.jsonl", b"")
    store.put("run.json", json.dumps({"created": "now", "target_fingerprint": "f"}).encode())


@pytest.fixture
def address(config: RunConfig) -> Iterator[str]:
    with served(LiveReport(config), port=0) as address:
        yield address


def _get(address: str, path: str = "", **headers: str) -> str:
    request = urllib.request.Request(address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def test_a_run_that_is_being_planned_is_waited_for(address: str, config: RunConfig) -> None:
    assert "is being planned" in _get(address)
    _plan(_store(config))
    page = _get(address)
    assert "Nothing has been measured yet" in page
    assert "Not finished: rewriting 0 of 2 shards, gap 0 of 2 shards and training 0 of 1 model." in page
    assert "connect-src &#39;self&#39;" in page or "connect-src 'self'" in page


def test_a_page_that_waits_shows_what_the_stages_do_already(address: str) -> None:
    page = _get(address)
    assert 'fetch("progress"' in page
    assert "connect-src 'self'" in page.replace("&#39;", "'")


def test_the_version_changes_with_what_the_run_gains(config: RunConfig) -> None:
    store, live = _store(config), LiveReport(config)
    _plan(store)
    before = live.version()
    assert live.version() == before
    store.put("report/index.html", b"the report itself is no news")
    assert live.version() == before
    store.put("rewrite/commits/00000.json", json.dumps({"data_key": "x", "num_rows": 2}).encode())
    assert live.version() != before
    (rewriting, *_) = progress_of(Run(store, config), PLAN)
    assert (rewriting.num_done, rewriting.num_in_all) == (1, 2)


def test_an_open_page_is_told_what_the_stages_do(config: RunConfig) -> None:
    report = LiveReport(config)
    with served(report, port=0) as address:
        assert _get(address, "progress") == ""
        report.show_progress(["rewrite    0/16  reading weights", "train      0/9"])
        assert _get(address, "progress") == "rewrite    0/16  reading weights\ntrain      0/9"


def test_other_names_and_paths_are_refused(address: str) -> None:
    for path, headers, code in (("", {"Host": "evil.example"}, 403), ("config.json", {}, 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            _get(address, path, **headers)
        assert refused.value.code == code


def test_the_server_ends_with_the_run_and_says_when_the_port_is_taken(config: RunConfig) -> None:
    with served(LiveReport(config), port=0) as address:
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=f"--port {port}"), served(LiveReport(config), port=port):
            pass
    with pytest.raises(urllib.error.URLError):
        _get(address)


def test_the_server_ends_only_after_an_open_page_shows_the_finished_run(config: RunConfig) -> None:
    def poll_until_planned(address: str) -> str:
        """As an open page does: it loads itself anew whenever the version has changed."""
        page = shown = ""
        while "Not finished" not in page:
            if (version := _get(address, "version")) != shown:
                page, shown = _get(address), version
        return page

    store = _store(config)
    with ThreadPoolExecutor() as threads, served(LiveReport(config), port=0) as address:
        assert "is being planned" in _get(address)
        page = threads.submit(poll_until_planned, address)
        _plan(store)
    assert "rewriting 0 of 2 shards" in page.result()


def test_a_store_is_read_and_never_written(config: RunConfig, tmp_path: Path) -> None:
    store = _store(config)
    _plan(store)
    before = list(LocalStore(tmp_path).keys(""))
    with served(LiveReport(config), port=0) as address:
        _get(address)
    assert list(LocalStore(tmp_path).keys("")) == before
