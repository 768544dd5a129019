"""The page in a real browser, by keyboard: a rewriting, a wrong key, a limit, an engine that dies."""

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from drsft.policy.prompts import Prompter
from drsft.verify.pool import VerifierPool
from serve.http.errors import EngineUnavailable, error_document
from serve.limits.keys import make_key
from serve.limits.rates import Rejected
from tests.support.serve import Policy, make_service, served

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]


def fill(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.insert_text("What is 1 + 1? <script>alert(1)</script>")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("2")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("One and one make \\boxed{2}. <b>bold</b>")


def opened(browser_page: Page, url: str) -> tuple[Page, list[str], list[str]]:
    """The page, what it complained about, and what it asked of other servers."""
    complaints: list[str] = []
    foreign: list[str] = []
    browser_page.on("console", lambda one: complaints.append(one.text) if one.type == "error" else None)
    browser_page.on("pageerror", lambda error: complaints.append(str(error)))
    browser_page.on("request", lambda one: None if one.url.startswith(url) else foreign.append(one.url))
    browser_page.goto(url)
    return browser_page, complaints, foreign


def test_a_solution_is_rewritten_by_keyboard_alone(
    page: Page, prompter: Prompter, verifier: VerifierPool, screenshots: Path
) -> None:
    policy = Policy(lambda seed: "I add: <i>1 + 1</i> = 2. The answer is \\boxed{2}.")
    policy.streamed_ids = prompter.completion("I add 1 and 1")[:-1]
    with served(make_service(policy, prompter, verifier)) as url:
        page, complaints, foreign = opened(page, url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#headline")).to_have_text("Solved by itself")
        expect(page.locator("#outcome")).to_be_focused()
        assert "<i>1 + 1</i>" in page.inner_text("#after"), "texts stay text"
        assert "<b>bold</b>" in page.inner_text("#before")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=screenshots / f"serve-{scheme}.png", full_page=True)
            assert Axe().run(page).response["violations"] == []
        page.set_viewport_size({"width": 390, "height": 800})
        page.screenshot(path=screenshots / "serve-phone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (complaints, foreign) == ([], [])


def test_a_wrong_key_is_said_and_the_field_is_in_focus(
    page: Page, prompter: Prompter, verifier: VerifierPool, tmp_path: Path, screenshots: Path
) -> None:
    (tmp_path / "keys").write_text(make_key("other")[1])
    app = make_service(Policy(), prompter, verifier, access={"keys_file": str(tmp_path / "keys")})
    with served(app) as url:
        page, _, _ = opened(page, url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#complaint")).to_have_text("The key is missing or wrong.")
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#progress")).to_be_hidden()
        page.screenshot(path=screenshots / "serve-wrong-key.png", full_page=True)


def test_a_key_that_no_header_can_hold_is_said_to_be_wrong(
    page: Page, prompter: Prompter, verifier: VerifierPool
) -> None:
    policy = Policy()
    with served(make_service(policy, prompter, verifier)) as url:
        page, _, _ = opened(page, url)
        fill(page)
        for key in ("Schlüssel", "drsft_‑dash", "two words"):
            page.locator("#key").fill(key)
            page.locator("#problem").focus()
            page.keyboard.press("Control+Enter")
            expect(page.locator("#complaint")).to_have_text("The key is missing or wrong.")
            expect(page.locator("#key")).to_be_focused()
            expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
            expect(page.locator("#progress")).to_be_hidden()
        assert policy.num_calls == 0
        page.locator("#key").fill("")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#headline")).to_be_visible()


def test_a_key_over_its_rate_is_said_with_its_limit_and_the_time_to_wait(
    page: Page, prompter: Prompter, verifier: VerifierPool, screenshots: Path
) -> None:
    access = {"open_on_loopback": True, "requests_per_minute": 1}
    with served(make_service(Policy(), prompter, verifier, access=access)) as url:
        page, _, _ = opened(page, url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#headline")).to_be_visible()
        page.keyboard.press("Control+Enter")
        said = re.compile(r"^Key 'anyone' is over its limit of 1 requests a minute; try again in \d+ s\.$")
        expect(page.locator("#complaint")).to_have_text(said)
        page.screenshot(path=screenshots / "serve-key-over-its-rate.png", full_page=True)


def test_a_full_service_is_said_with_the_time_to_wait(
    page: Page, prompter: Prompter, verifier: VerifierPool, screenshots: Path
) -> None:
    document, headers = error_document(Rejected("the service is full", 3, is_full=True), "id")
    with served(make_service(Policy(), prompter, verifier)) as url:
        page, _, _ = opened(page, url)
        body = document.model_dump_json()
        page.route("**/rewrite/stream*", lambda route: route.fulfill(status=429, headers=headers, body=body))
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#complaint")).to_have_text("The service is full; try again in 3 s.")
        page.screenshot(path=screenshots / "serve-full.png", full_page=True)


def test_engines_that_are_full_in_the_middle_are_said(
    page: Page, prompter: Prompter, verifier: VerifierPool
) -> None:
    class Full(Policy):
        async def generate(self, *arguments: Any, **options: Any) -> Any:
            options["on_tokens"](0, prompter.completion("I add")[:-1])
            raise Rejected("every engine is full", 2, is_full=True)

    with served(make_service(Full(), prompter, verifier)) as url:
        page, _, _ = opened(page, url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#complaint")).to_have_text("Every engine is full; try again in 2 s.")
        expect(page.locator("#start")).to_be_enabled()


def test_an_engine_that_dies_in_the_middle_is_said(
    page: Page, prompter: Prompter, verifier: VerifierPool, screenshots: Path
) -> None:
    class Dying(Policy):
        async def generate(self, *arguments: Any, **options: Any) -> Any:
            options["on_tokens"](0, prompter.completion("I add")[:-1])
            await asyncio.to_thread(died.wait, 30)
            raise EngineUnavailable

    died = threading.Event()
    with served(make_service(Dying(), prompter, verifier)) as url:
        page, _, _ = opened(page, url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".text").first).to_have_text("I add")
        died.set()
        expect(page.locator("#complaint")).to_contain_text("The engine stopped in the middle")
        expect(page.locator("#start")).to_be_enabled()
        page.screenshot(path=screenshots / "serve-dying.png", full_page=True)


def test_escape_stops_and_an_empty_problem_is_asked_for(
    page: Page, prompter: Prompter, verifier: VerifierPool
) -> None:
    policy = Policy()
    policy.released.clear()
    with served(make_service(policy, prompter, verifier)) as url:
        page, _, _ = opened(page, url)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#complaint")).to_have_text("Give a problem.")
        expect(page.locator("#problem")).to_be_focused()
        page.goto(url)
        fill(page)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#stages h3")).to_have_text("By itself")
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("Stopped.")
        expect(page.locator("#start")).to_be_focused()
