"""A service over a policy that answers from a function, and a real HTTP server for it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from drsft.policy.fake import text_completion
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import OnTokens, Scorer
from drsft.records import Completion, Sampling
from drsft.verify.protocol import Verifier
from serve.http.backend import Backend
from serve.http.routes import make_app
from serve.limits.admission import NO_METRICS
from serve.service import RewriteService
from serve.service_metrics import NoMetrics, ServiceMetrics
from serve.settings import ServeConfig

SETTINGS: dict[str, Any] = {
    "target": {"model": "embedded", "dtype": "float32", "max_model_len": 256},
    "rewrite": {
        "self_align": {"num_samples": 2, "wave_size": 2, "max_tokens": 64},
        "guided": {"num_samples": 2, "wave_size": 2, "max_tokens": 64},
        "grounding": None,  # this policy scores nothing
    },
    "access": {"open_on_loopback": True},
}


class Policy:
    """Its text is `answer(seed)`; can be held back until released."""

    def __init__(self, answer: Callable[[int], str] = lambda seed: "The answer is \\boxed{2}.") -> None:
        self.answer = answer
        self.released = asyncio.Event()
        self.released.set()
        self.started = asyncio.Event()
        self.streamed_ids: tuple[int, ...] = ()
        self.asked: list[tuple[int, Sampling]] = []  # tokens of the prompt, and what was asked for it
        self.num_calls = 0
        self.num_cancelled = 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        self.num_calls += 1
        self.asked.append((len(prompt_ids), sampling))
        self.started.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        completions = [text_completion(self.answer(sampling.seed + i)) for i in range(sampling.num_samples)]
        if on_tokens is not None:
            on_tokens(0, self.streamed_ids)
        return completions


async def idle() -> int:
    return 0


class Answers(NoMetrics):
    """The statuses that were counted, with their routes."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, int]] = []

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        self.counted.append((route, status))


def make_backend(
    policy: Policy,
    prompter: Prompter,
    verifier: Verifier,
    *,
    num_pending: Callable[[], Awaitable[int]] = idle,
    metrics: ServiceMetrics = NO_METRICS,
    scorer: Scorer | None = None,
    **changes: Any,
) -> Backend:
    config = ServeConfig.model_validate({**SETTINGS, **changes})
    service = RewriteService(config, prompter, policy, verifier, scorer)
    return Backend(config, service, num_pending=num_pending, model_fingerprint="f", metrics=metrics)


def make_service(policy: Policy, prompter: Prompter, verifier: Verifier, **changes: Any) -> FastAPI:
    return make_app(make_backend(policy, prompter, verifier, **changes))


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app behind a real server on loopback: its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    started = threading.Event()
    startup = server.startup

    async def startup_and_tell(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
