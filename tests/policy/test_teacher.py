"""The teachers' client against a real HTTP server that answers as it is told to."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from drsft.config import Teacher
from drsft.errors import SetupError
from drsft.policy.teacher import FAILURES_IN_A_ROW, OpenAITeachers, TeacherText
from drsft.records import FinishReason, Outcome, Rejection, RejectionKind, Source
from tests.rewrite.test_cascade import answering, recipe, rewritten

Answer = (
    int | str | dict[str, object] | bytes
)  # a status, an answer's finish reason, or a body with status 200


class Server(ThreadingHTTPServer):
    """Gives the answers in turn, the last one for ever; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests: list[dict[str, object]] = []
        self.release = threading.Event()  # what a slow answer waits for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        if answer == "slow":
            server.release.wait()
        body = answer if isinstance(answer, bytes) else json.dumps(_body(answer)).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if answer == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


# What would give away a guide if one had been shown: a teacher sees none.
TEXT = "right, as in the reference solution"


def _body(answer: int | str | dict[str, object]) -> dict[str, object]:
    if isinstance(answer, dict):
        return answer
    return {"error": {"message": "as told"}} if isinstance(answer, int) else _chat(answer)


def _chat(finish_reason: str, content: object = TEXT) -> dict[str, object]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "big", "choices": [choice]}


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(*answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def teacher(url: str, **changes: object) -> Teacher:
    fields = {"model": "big", "base_url": url, "use": "direct", "max_retries": 0, **changes}
    return Teacher.model_validate(fields)


def solve(one: Teacher, times: int = 1) -> list[TeacherText]:
    """Asks so many times, one after the other."""

    async def ask() -> list[TeacherText]:
        teachers = OpenAITeachers([one])
        messages = [{"role": "user", "content": "1+1?"}]
        return [text for seed in range(times) for text in await teachers.solve(one, messages, seed=seed)]

    return asyncio.run(ask())


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter"])
def test_a_solution_comes_with_the_finish_reason_as_it_was_given(finish_reason: str) -> None:
    with serving(finish_reason) as server:
        (text,) = solve(teacher(server.url, temperature=0.3, max_tokens=7))
    assert text == TeacherText(text=TEXT, finish_reason=FinishReason(finish_reason), seed=0)
    (asked,) = server.requests
    assert (asked["model"], asked["temperature"], asked["max_tokens"], asked["seed"]) == ("big", 0.3, 7, 0)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(status: int) -> None:
    with serving(status, "stop") as server:
        (text,) = solve(teacher(server.url, max_retries=1))
    assert text.failure is None
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "check BIG_KEY"), (403, "check BIG_KEY"), (404, "check model and base_url")],
)
def test_a_key_or_name_that_is_refused_is_the_users_to_mend(
    status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", "not this one")
    with serving(status) as server, pytest.raises(SetupError, match=said) as caught:
        solve(teacher(server.url, api_key_env="BIG_KEY"))
    assert "\n" not in str(caught.value)
    assert "not this one" not in str(caught.value)
    assert server.url in str(caught.value)


def test_a_key_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIG_KEY", raising=False)
    with pytest.raises(SetupError, match="BIG_KEY is not set"):
        OpenAITeachers([teacher("http://127.0.0.1:1/v1", api_key_env="BIG_KEY")])
    with serving(401) as server, pytest.raises(SetupError, match="set api_key_env"):
        solve(teacher(server.url))


def test_an_endpoint_that_never_answered_ends_the_run_in_one_line() -> None:
    with serving("stop") as server:
        gone = server.url
    with pytest.raises(SetupError, match="no connection to the teacher") as caught:
        solve(teacher(gone))
    assert "\n" not in str(caught.value)
    with serving("slow") as server, pytest.raises(SetupError, match="the teacher timed out"):
        solve(teacher(server.url, timeout_s=0.05))
    with serving(500) as server, pytest.raises(SetupError, match="status 500"):
        solve(teacher(server.url))


def test_failures_now_and_then_are_counted_and_many_in_a_row_end_the_run() -> None:
    few = ["stop", *[500] * (FAILURES_IN_A_ROW - 1)]
    with serving(*few, *few, "stop") as server:
        texts = solve(teacher(server.url), times=len(few) * 2)
    failures = [text.failure for text in texts if text.failure]
    assert failures == ["the teacher answered with status 500"] * 2 * (FAILURES_IN_A_ROW - 1)
    with serving(*few, 500) as server, pytest.raises(SetupError, match="to resume"):
        solve(teacher(server.url), times=len(few) + 1)


def test_a_single_request_that_is_refused_is_that_problems_alone() -> None:
    """A question that is too long for the teacher says nothing about the others, not even as the first."""
    with serving(400, "stop") as server:
        first, second = solve(teacher(server.url), times=2)
    assert first.failure == "the teacher answered with status 400"
    assert second.failure is None


def test_problems_that_are_too_long_for_it_never_end_the_run_of_a_teacher_that_answers() -> None:
    with serving("stop", *[400] * 3 * FAILURES_IN_A_ROW, "stop") as server:
        texts = solve(teacher(server.url), times=2 + 3 * FAILURES_IN_A_ROW)
    assert [text.failure is None for text in texts] == [True, *[False] * 3 * FAILURES_IN_A_ROW, True]
    with serving(400) as server, pytest.raises(SetupError, match="status 400"):  # a parameter it refuses
        solve(teacher(server.url), times=FAILURES_IN_A_ROW)


ROUTERS = {"choices": None, "error": {"code": 429, "message": "busy"}}  # of routers before other endpoints


BODIES: dict[str, Answer] = {
    "a router's": ROUTERS,
    "no choice": {"choices": []},
    "no message": {"choices": [{"finish_reason": None}]},
    "choices by name": {"choices": {"first": 1}},
    "a message of text": {"choices": [{"message": "2", "finish_reason": "stop"}]},
    "parts without text": _chat("stop", [{"type": "image_url"}]),
    "a number": _chat("stop", 2),
    "nothing": b"",
    "cut off": b'{"choices": [{"mess',
    "a page": b"<html>busy</html>",
}


@pytest.mark.parametrize("name", BODIES)
def test_success_without_a_solution_is_a_failure_with_a_name(name: str) -> None:
    body = BODIES[name]
    with serving(body, "stop") as server:
        first, second = solve(teacher(server.url), times=2)
    assert first.failure == "the teacher's answer cannot be read"
    assert second.failure is None
    with serving(body) as server, pytest.raises(SetupError, match="cannot be read") as caught:
        solve(teacher(server.url), times=FAILURES_IN_A_ROW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "1+1 "}, {"type": "text", "text": "= 2"}], "1+1 = 2"),
        ("half a \ud83d", "half a ?"),
        (None, ""),
    ],
)
def test_text_comes_in_parts_or_broken_and_is_text_all_the_same(content: object, text: str) -> None:
    with serving(_chat("stop", content)) as server:
        (found,) = solve(teacher(server.url))
    assert (found.text, found.failure) == (text, None)


class Failing(OpenAITeachers):
    def __init__(self, one: Teacher) -> None:
        super().__init__([one])
        self._has_answered.add(one)


def test_a_problem_whose_teacher_failed_goes_on_and_its_record_says_so() -> None:
    with serving(503) as server:
        record = rewritten(answering("wrong", "wrong"), recipe(Failing(teacher(server.url))))  # type: ignore[arg-type]
    assert record.source is Source.EXPERT
    attempt = record.attempts[-1]
    assert attempt.verdict.outcome is Outcome.UNJUDGED
    assert attempt.verdict.reason == "the teacher answered with status 503"
    assert (attempt.rollout.completion.finish_reason, attempt.rollout.policy) == ("error", "big")


@pytest.mark.parametrize(
    ("finish_reason", "source", "outcome"),
    [("stop", Source.TEACHER, Outcome.CORRECT), ("length", Source.EXPERT, Outcome.TRUNCATED)],
)
def test_a_truncated_solution_is_never_kept(finish_reason: str, source: Source, outcome: Outcome) -> None:
    with serving(finish_reason) as server:
        teachers = OpenAITeachers([teacher(server.url)])
        record = rewritten(answering("wrong", "wrong"), recipe(teachers))  # type: ignore[arg-type]
    assert record.source is source
    assert record.attempts[-1].verdict.outcome is outcome
    assert record.attempts[-1].rollout.completion.finish_reason == finish_reason


def test_a_solution_that_does_not_fit_the_model_is_no_text_of_its() -> None:
    with serving("stop") as server:
        one = recipe(OpenAITeachers([teacher(server.url)]))  # type: ignore[arg-type]
        object.__setattr__(one, "max_model_len", 20)
        record = rewritten(answering("wrong", "wrong"), one)
    assert record.source is Source.EXPERT
    assert record.attempts[-1].rejection == Rejection(RejectionKind.TOO_LONG)
