"""The service's answer holds a thinking model's solution and its thought apart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drsft.config import Prompts, Target
from drsft.policy.fake import FakePolicy
from drsft.policy.prompts import target_prompter
from drsft.records import Completion, FinishReason, Outcome
from drsft.rewrite.budget import TokenBudget
from drsft.verify.pool import VerifierPool
from serve.api import RewriteRequest, RewriteResult
from serve.service import RewriteService, Unacceptable
from serve.settings import Access, ServeConfig
from tests.support.templates import FAMILIES, folder_of

THOUGHT, ANSWER = "Maybe \\boxed{5}? No.", "It is \\boxed{7}."


def test_the_thought_stands_beside_the_solution(tmp_path: Path) -> None:
    model = str(folder_of(tmp_path, FAMILIES["open thought, kept"]))
    target = Target(model=model, prompts=Prompts(plain="{question}"))
    prompter = target_prompter(target)
    ids = prompter.written(ANSWER, THOUGHT)
    text, thought = prompter.read(ids)
    completion = Completion(
        token_ids=ids, text=text, behaviour_logprobs_T=None, finish_reason=FinishReason.STOP, thought=thought
    )

    async def answer() -> RewriteResult:
        async with VerifierPool(num_workers=1) as verifier:
            policy = FakePolicy(lambda prompt_ids, seed: completion)
            service = RewriteService(
                ServeConfig(target=target, access=Access(open_on_loopback=True)), prompter, policy, verifier
            )
            plan = service.plan(RewriteRequest(problem="3 + 4?", reference="7", seed=1))
            return await service.rewrite(plan, request_id="r", budget=TokenBudget(None))

    result = asyncio.run(answer())
    assert (result.solution, result.thought) == (ANSWER, THOUGHT)
    assert (result.answer, result.outcome) == ("7", Outcome.CORRECT)
    assert 0 < result.tokens.thought < result.tokens.kept == len(ids)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"problem": "3 + 4?", "expert_solution": "<think>\nnever closed"}, "expert_solution"),
        (
            {
                "messages": [
                    {"role": "user", "content": "3 + 4?"},
                    {"role": "assistant", "content": "<think>\nnever closed"},
                ]
            },
            "messages",
        ),
    ],
)
async def test_a_solution_whose_thought_never_closes_is_told_by_its_field(
    asked: dict[str, Any], field: str, tmp_path: Path
) -> None:
    target = Target(model=str(folder_of(tmp_path, FAMILIES["open thought, kept"])))
    policy = FakePolicy(lambda prompt_ids, seed: pytest.fail("it was asked"))
    async with VerifierPool(num_workers=1) as verifier:
        config = ServeConfig(target=target, access=Access(open_on_loopback=True))
        service = RewriteService(config, target_prompter(target), policy, verifier)
        with pytest.raises(Unacceptable, match="never closes") as refused:
            service.plan(RewriteRequest.model_validate({**asked, "reference": "7"}))
    assert refused.value.field == field
