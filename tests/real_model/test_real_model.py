"""The language model of `make real-model` under drsft: its turn, and its likelihoods in both engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drsft.config import Engine, Prompts, Target
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Problem, Sampling

pytestmark = pytest.mark.real_model

PROBLEM = Problem(
    problem_id="p", question="What is 12 + 30?", demonstration="12 + 30 = \\boxed{42}.", reference="42"
)


@pytest.fixture(scope="module")
def target(real_model: Path) -> Target:
    return Target(
        model=str(real_model),
        dtype="float32",
        max_model_len=512,
        engine=Engine(max_num_seqs=8, kv_cache_mib=128, enforce_eager=True),
    )


@pytest.fixture(scope="module")
def policy(target: Target) -> Iterator[VLLMPolicy]:
    with VLLMPolicy(target, load_prompter(target.model, target.prompts)) as policy:
        yield policy


def test_the_turn_is_the_templates_own(real_model: Path) -> None:
    prompter = load_prompter(str(real_model), Prompts(plain="{question}"))
    tokenizer = AutoTokenizer.from_pretrained(real_model)
    messages = [
        {"role": "user", "content": PROBLEM.question},
        {"role": "assistant", "content": PROBLEM.demonstration},
    ]
    rendered = tokenizer.apply_chat_template(messages, return_dict=False)
    ours = [*prompter.plain(PROBLEM), *prompter.completion(PROBLEM.demonstration)]
    assert rendered[: len(ours)] == ours
    assert prompter.turn.end_token_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


@pytest.mark.engine
async def test_behaviour_logprobs_are_those_of_transformers(real_model: Path, policy: VLLMPolicy) -> None:
    prompt_ids = load_prompter(str(real_model), Prompts()).plain(PROBLEM)
    sampling = Sampling(num_samples=4, temperature=1.0, max_tokens=48, seed=3)
    completions = await policy.generate(prompt_ids, sampling)
    model = AutoModelForCausalLM.from_pretrained(real_model).eval()
    for completion in completions:
        ids_T = torch.tensor([*prompt_ids, *completion.token_ids])
        with torch.no_grad():
            logprobs_TV = model(ids_T[None]).logits[0].log_softmax(-1)
        expected_T = logprobs_TV[len(prompt_ids) - 1 : -1].gather(1, ids_T[len(prompt_ids) :, None])[:, 0]
        assert completion.behaviour_logprobs_T is not None
        found_T = torch.tensor(completion.behaviour_logprobs_T)
        torch.testing.assert_close(found_T, expected_T, atol=2e-3, rtol=0)
