"""Numbers, choices, strings, custom callables and model judges."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from drsft.config import Verification
from drsft.errors import ConfigError
from drsft.records import Outcome, Problem
from drsft.verify.case import Case
from drsft.verify.choice.verdict import judge_choice
from drsft.verify.kinds import check_kind, judge_case, kinds_of
from drsft.verify.literal import judge_exact, judge_regex
from drsft.verify.model_judge import ModelJudge
from drsft.verify.numeric import judge_numeric
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool

CORRECT, WRONG, NO_ANSWER, UNJUDGED = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.UNJUDGED
QUESTION = "Which is prime?\nA) 4\nB) 6\nC) 7\nD) none of these"


def case(reference: str, text: str, *, kind: str = "", question: str = "") -> Case:
    return Case(kind=kind, question=question, reference=reference, text=text)


@pytest.mark.parametrize(
    ("reference", "text", "outcome"),
    [
        ("9.81", r"\boxed{9.81}", CORRECT),
        ("9.81", "about 9.8105 m/s^2", CORRECT),
        ("9.81", r"\boxed{9.9}", WRONG),
        ("3.2 ± 0.1", "x = 3.3", CORRECT),
        ("3.2 ± 0.1", "x = 3.31", WRONG),
        ("2.998e8", r"\boxed{2.998\times 10^8}", CORRECT),
        ("2 hours", "The answer is 120 minutes.", CORRECT),
        ("5 kg", r"\boxed{5\text{ km}}", WRONG),
        ("21 atm", r"The answer is $21 \mathrm{D}$.", WRONG),
        (r"146 \mathrm{Jmol}^{-1} \mathrm{~K}^{-1}", "The answer is $146 years$.", WRONG),
        (
            r"8.3147 \mathrm{JK}^{-1} \mathrm{~mol}^{-1}",
            r"\boxed{8.3147 \mathrm{g} \mathrm{mol}^{-1}}",
            WRONG,
        ),
        (
            r"146 \mathrm{Jmol}^{-1} \mathrm{~K}^{-1}",
            r"\boxed{146 \mathrm{Jmol}^{-1} \mathrm{~K}^{-1}}",
            CORRECT,
        ),
        ("5.93 MiB", "The answer is 5.93 MiB.", CORRECT),
        ("5.93 MiB", "The answer is 5.93 GiB.", WRONG),
        ("18 (marbles)", "The answer is 18 marbles.", CORRECT),
        ("18 (marbles)", "The answer is 18.", CORRECT),
        ("18", "The answer is 18 marbles.", CORRECT),
        ("760 Torr", "The answer is 1.0 atm.", CORRECT),
        (r"\frac{1}{3}", r"\boxed{0.33333}", CORRECT),
        ("5", "no idea", NO_ANSWER),
        ("5", r"\boxed{x+y}", WRONG),
        ("many", r"\boxed{5}", UNJUDGED),
    ],
)
def test_numbers_within_their_tolerance(reference, text, outcome):
    assert judge_numeric(case(reference, text), VerifyOptions()).outcome is outcome


@pytest.mark.parametrize(
    ("reference", "text", "outcome"),
    [
        ("C", "The answer is (C).", CORRECT),
        ("C", r"\boxed{C}", CORRECT),
        ("C", r"\boxed{\text{(C)}\ 7}", CORRECT),
        ("C", r"\boxed{7}", CORRECT),
        ("7", "C", CORRECT),
        ("C", "I think it's B, no, hence it is C", CORRECT),
        ("C", "Answer: B", WRONG),
        ("C", "I cannot tell.", NO_ANSWER),
        ("the third", "C", UNJUDGED),
        ("D", "none of these", CORRECT),
    ],
)
def test_choices_by_letter_or_text(reference, text, outcome):
    assert judge_choice(case(reference, text, question=QUESTION), VerifyOptions()).outcome is outcome


def test_exact_answers_ignore_white_space_only():
    options = VerifyOptions()
    assert judge_exact(case("New York", "New  York\n"), options).outcome is CORRECT
    assert judge_exact(case("New York", r"It is \boxed{New York}"), options).outcome is CORRECT
    assert judge_exact(case("New York", "new york"), options).outcome is WRONG
    assert judge_exact(case("New York", " "), options).outcome is NO_ANSWER


def test_patterns_must_match_all_of_a_box():
    options = VerifyOptions()
    assert judge_regex(case(r"\d{3}", r"\boxed{123}"), options).outcome is CORRECT
    assert judge_regex(case(r"\d{3}", r"\boxed{1234}"), options).outcome is WRONG
    assert judge_regex(case(r"colou?r", "the color red"), options).outcome is CORRECT
    assert judge_regex(case(r"[0-9", "5"), options).outcome is UNJUDGED


def accepts_even(question: str, reference: str, text: str) -> tuple[str, str]:
    return ("correct", "even") if int(text) % 2 == 0 else ("wrong", "odd")


def test_a_custom_callable_is_a_kind_of_its_own():
    options = VerifyOptions(custom={"even": f"{__name__}:accepts_even"})
    assert judge_case(case("", "4", kind="even"), options).outcome is CORRECT
    assert judge_case(case("", "5", kind="even"), options).reason == "odd"


async def test_a_custom_callable_that_raises_is_unjudged():
    options = VerifyOptions(custom={"broken": "json:loads", "missing": "no_such_module:f"})
    async with VerifierPool(options=options) as pool:
        for kind in ("broken", "missing"):
            problem = Problem(problem_id="", question="", demonstration="", reference="", kind=kind)
            assert (await pool.judge(problem, "x")).outcome is UNJUDGED


def test_unknown_kinds_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="unknown verifier kind 'x'; known: choice, code"):
        check_kind("x", VerifyOptions())


class Judge(BaseHTTPRequestHandler):
    replies: ClassVar[list[tuple[int, str]]] = []
    seen: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append(body)
        status, content = type(self).replies.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": content}}]}).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def judge_url():
    server = HTTPServer(("127.0.0.1", 0), Judge)
    Judge.seen, Judge.replies = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_model_judges_once_for_equal_cases_and_is_asked_again_after_an_error(judge_url):
    Judge.replies = [(503, ""), (200, "The values agree.\nVERDICT: CORRECT")]
    options = VerifyOptions(judge_url=judge_url, judge_model="m")
    problem = Problem(problem_id="", question="2+2?", demonstration="", reference="4", kind="judge")
    async with VerifierPool(options=options) as pool:
        assert (await pool.judge(problem, "four")).outcome is CORRECT
        assert (await pool.judge(problem, "four")).outcome is CORRECT
    assert len(Judge.seen) == 2
    assert "four" in Judge.seen[0]["messages"][1]["content"]


def test_a_judge_that_is_unclear_refused_or_spent_leaves_the_case_unjudged(judge_url):
    judge = ModelJudge(VerifyOptions(judge_url=judge_url, judge_model="m", judge_max_calls=3))
    Judge.replies = [(200, "Hm."), (401, ""), (200, "VERDICT: WRONG")]
    reasons = [judge(case("4", "four")).reason for _ in range(4)]
    assert reasons == [
        "judge gave no verdict",
        "judge answered HTTP 401",
        "judge said wrong",
        "judge's budget is spent",
    ]


def test_a_judge_without_a_server_is_a_configuration_error():
    with pytest.raises(ConfigError, match="judge_url"):
        ModelJudge(VerifyOptions())


async def test_a_run_judges_by_what_its_configuration_says(judge_url):
    Judge.replies = [(200, "VERDICT: CORRECT")]
    config = Verification.model_validate(
        {
            "require_box": True,
            "relative_tolerance": 0.1,
            "judge": {"model": "m", "url": judge_url, "rubric": "Be kind."},
            "custom": {"even": f"{__name__}:accepts_even"},
        }
    )
    assert {"even", "judge", "math"} <= kinds_of(config)
    async with VerifierPool.from_config(config, num_workers=1) as pool:

        async def outcome(kind: str, reference: str, text: str):
            problem = Problem(problem_id="", question="?", demonstration="", reference=reference, kind=kind)
            return (await pool.judge(problem, text)).outcome

        assert await outcome("math", "4", "The answer is 4.") is NO_ANSWER
        assert await outcome("numeric", "100", "\\boxed{105}") is CORRECT
        assert await outcome("even", "", "4") is CORRECT
        assert await outcome("judge", "4", "four") is CORRECT
    assert Judge.seen[0]["messages"][0]["content"] == "Be kind."


def test_a_kind_that_nothing_judges_is_told_before_a_run_begins():
    assert "judge" not in kinds_of(Verification())
    with pytest.raises(ConfigError, match="no_such_module:f"):
        kinds_of(Verification(custom={"missing": "no_such_module:f"}))
