"""What a request counts as before it is let in, and what it pays: all that the engines and the scorer get."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from drsft.policy.prompts import Prompter
from drsft.verify.pool import VerifierPool
from serve.api import RewriteRequest
from serve.http.backend import Backend
from serve.http.routes import make_app
from serve.limits.admission import Admission
from tests.support.serve import SETTINGS, Policy, make_backend

MOST = 256  # SETTINGS' max_model_len
EXPERT = "It is \\boxed{2}."


class Scores:
    """Counts what it gets to score."""

    def __init__(self) -> None:
        self.num_tokens = 0

    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        self.num_tokens += sum(len(prompt_ids) + len(ids) for ids in completions)
        return [0.0] * len(completions)


def request(**changes: Any) -> RewriteRequest:
    return RewriteRequest.model_validate({"problem": "1 + 1?", "reference": "2", "seed": 3, **changes})


def wrong(seed: int) -> str:
    return "The answer is \\boxed{5}."


def on_one_moment(backend: Backend) -> Backend:
    """Its clock stands, so that nothing of what is charged comes back."""
    backend.admission = Admission(10**6, clock_s=lambda: 0.0)
    return backend


def num_charged(backend: Backend) -> int:
    bucket = backend.admission.rates.take_tokens(backend.anyone, 0).bucket
    return round(bucket.per_minute - bucket.level)


@pytest.mark.parametrize("hint", ["demonstration", "answer", "rephrase"])
@pytest.mark.parametrize("num_repeats", [0, 1, 10, 100])
async def test_no_engine_gets_more_at_a_time_than_was_estimated_and_all_prompts_are_paid_for(
    prompter: Prompter, verifier: VerifierPool, hint: str, num_repeats: int
) -> None:
    policy = Policy(wrong)
    guided = {**SETTINGS["rewrite"]["guided"], "hint": hint}
    rewrite = {**SETTINGS["rewrite"], "guided": guided}
    backend = on_one_moment(make_backend(policy, prompter, verifier, rewrite=rewrite))
    asked = request(expert_solution="So 1 + 1 = 2. " * num_repeats + EXPERT)
    estimate = backend.service.plan(asked).estimated_tokens
    result = await backend.rewrite(backend.anyone, asked, "id")
    engines = [num_prompt + one.num_samples * one.max_tokens for num_prompt, one in policy.asked]
    assert max(engines) == estimate
    longest = max(num_prompt for num_prompt, _ in policy.asked)
    assert longest < MOST
    assert num_charged(backend) == longest + result.tokens.sampled


@pytest.mark.parametrize("answer", ["The answer is \\boxed{2}.", "The answer is \\boxed{5}."])
async def test_what_is_scored_is_estimated_and_paid_for(
    prompter: Prompter, verifier: VerifierPool, answer: str
) -> None:
    scores = Scores()
    policy = Policy(lambda seed: answer)
    backend = on_one_moment(make_backend(policy, prompter, verifier, scorer=scores))
    asked = request(expert_solution="So 1 + 1 = 2. " * 10 + EXPERT)
    without = backend.service.plan(asked)
    estimate = backend.service.plan(asked.model_copy(update={"phi": True})).estimated_tokens
    result = await backend.rewrite(backend.anyone, asked.model_copy(update={"phi": True}), "id")
    assert 0 < scores.num_tokens <= estimate - without.estimated_tokens
    assert num_charged(backend) == without.num_prompt_tokens + result.tokens.sampled + scores.num_tokens


async def test_phi_of_an_expert_text_that_is_too_long_is_refused_by_its_field(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    backend = make_backend(Policy(wrong), prompter, verifier, scorer=Scores())
    num_problem = backend.service.plan(request()).num_prompt_tokens
    statuses = {}
    transport = httpx.ASGITransport(make_app(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for num_repeats in range(1, 40):
            expert = "So 1 + 1 = 2. " * num_repeats
            num_tokens = num_problem + len(prompter.completion(expert))
            ask = request(expert_solution=expert, phi=True).model_dump()
            answer = await client.post("/rewrite", json=ask)
            statuses[num_tokens <= MOST] = answer.status_code
            assert answer.status_code == (200 if num_tokens <= MOST else 422)
            if answer.status_code == 422:
                assert answer.headers["Content-Type"] == "application/problem+json"
                (error,) = answer.json()["errors"]
                assert error["field"] == "expert_solution"
                assert str(num_tokens) in error["message"]
                assert str(MOST) in error["message"]
            for change in ({"phi": False}, {"recipe": {"fallback": "drop"}}):
                unscored = await client.post("/rewrite", json={**ask, **change})
                assert unscored.status_code == 200
    assert statuses == {True: 200, False: 422}
