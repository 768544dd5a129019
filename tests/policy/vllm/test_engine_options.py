"""Options on real engines: vLLM's own check by our keys, and samples that keep what drsft promises."""

import asyncio
import os
import re

import pytest
import torch
from pydantic import JsonValue
from transformers import AutoModelForCausalLM

from drsft.config import Engine, Prompts, Target
from drsft.errors import ConfigError, ModelError
from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder
from drsft.policy.prompts import load_prompter, model_location
from drsft.policy.vllm.engine import engine_arguments
from drsft.policy.vllm.options import check_options, refused_options
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Problem, Sampling

pytestmark = pytest.mark.engine

PROMPTS = Prompts(plain="{question}", guided="{question}{demonstration}")
SPECULATION: JsonValue = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_min": 2,
    "prompt_lookup_max": 4,
}


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="refused on a CPU")


def target(**options: JsonValue) -> Target:
    engine = Engine(max_num_seqs=16, kv_cache_mib=64, enforce_eager=True, options=options)
    return Target(model="embedded", dtype="float32", max_model_len=256, prompts=PROMPTS, engine=engine)


MISTAKES: list[tuple[dict[str, JsonValue], str]] = [
    ({"enable_prefix_cachin": True}, "enable_prefix_cachin: .*did you mean 'enable_prefix_caching'"),
    ({"enable_prefix_caching": "maybe"}, "enable_prefix_caching: expected a valid boolean"),
    ({"speculative_config": {"metod": "ngram"}}, r"speculative_config\.metod: "),
    ({"speculative_config": 3}, "speculative_config: expected keys with values, got 3"),
    ({"compilation_config": {"mode": 9}}, r"compilation_config\.mode: expected 0, 1, 2 or 3, got 9"),
]
IMPOSSIBLE: list[tuple[dict[str, JsonValue], str]] = [
    ({"block_size": 16, "quantization": "fp8"}, "quantization: .*float32 is not supported"),
    ({"quantization": "nonsense"}, "quantization: Unknown quantization method"),
    ({"speculative_config": {"method": "ngram"}}, "speculative_config: num_speculative_tokens must be"),
    ({"max_num_batched_tokens": 16}, "max_num_batched_tokens.*target.max_model_len"),
    ({"enable_chunked_prefill": True}, "enable_chunked_prefill: .*seeded"),
    ({"block_size": 16, "speculative_config": SPECULATION}, "speculative_config: .*another distribution"),
    ({"attention_backend": "NONE"}, "attention_backend: Unknown attention backend"),
]


def told(with_options: Target, *, is_own_machine: bool) -> str | None:
    arguments = {"model": model_location("embedded"), **engine_arguments(with_options)}
    return refused_options(with_options, arguments, is_own_machine=is_own_machine)


@pytest.mark.parametrize(("options", "message"), MISTAKES)
@pytest.mark.parametrize("is_own_machine", [True, False])
def test_a_wrong_name_or_type_is_told_anywhere(
    options: dict[str, JsonValue], message: str, is_own_machine: bool
) -> None:
    line = told(target(**options), is_own_machine=is_own_machine) or ""
    assert re.match(rf"target\.engine\.options\.{message}", line), line
    assert "\n" not in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="what the CPU build cannot do")
@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE)
def test_what_model_or_machine_cannot_do_is_told_where_the_engine_will_run(
    options: dict[str, JsonValue], message: str
) -> None:
    line = told(target(**options), is_own_machine=True) or ""
    assert re.match(rf"target\.engine\.options\.{message}", line), line
    assert "\n" not in line
    assert told(target(**options), is_own_machine=False) is None


def test_a_faulty_model_is_not_the_options_fault() -> None:
    missing = target(speculative_config=SPECULATION)
    arguments = {"model": "/no/such/model", **engine_arguments(missing)}
    assert refused_options(missing, arguments) is None


def test_the_check_runs_in_a_process_of_its_own() -> None:
    before = dict(os.environ)
    with pytest.raises(ConfigError, match=r"^target\.engine\.options\.speculative_config: num_spec"):
        check_options(target(speculative_config={"method": "ngram"}), is_own_machine=True)
    assert dict(os.environ) == before


def test_sound_options_pass_the_check() -> None:
    check_options(target(enable_prefix_caching=False, kv_cache_dtype="auto"), is_own_machine=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what the CPU build cannot do")
def test_an_engine_that_would_sample_falsely_is_not_started() -> None:
    """Wherever it is built, also where no driver checked."""
    wrong = target(speculative_config=SPECULATION)
    with pytest.raises(ConfigError, match=r"^target\.engine\.options\.speculative_config: .*CPU build"):
        VLLMPolicy(wrong, load_prompter(wrong.model, wrong.prompts))


def test_the_engine_itself_tells_the_same() -> None:
    wrong = target(kv_cache_dtype="fpx")
    with pytest.raises(ConfigError, match=r"^target\.engine\.options\.kv_cache_dtype: expected 'auto'"):
        VLLMPolicy(wrong, load_prompter(wrong.model, wrong.prompts))
    missing = target(block_size=16).model_copy(update={"model": "/no/such/model"})
    with pytest.raises(ModelError):
        VLLMPolicy(missing, load_prompter("embedded", PROMPTS))


@pytest.mark.parametrize(
    "options",
    [
        {"enable_prefix_caching": False, "block_size": 32},
        pytest.param({"speculative_config": SPECULATION}, marks=needs_gpu),
    ],
    ids=["cache", "speculation"],
)
def test_samples_keep_their_probabilities_under_options(options: dict[str, JsonValue]) -> None:
    """The log-probs are those that transformers computes."""
    with_options = target(**options)
    prompter = load_prompter(with_options.model, PROMPTS)
    question = "Ann has 43 cups, gets 46, gives 7. How many?"
    prompt_ids = prompter.plain(Problem(problem_id="p", question=question, demonstration="", reference="82"))
    sampling = Sampling(num_samples=8, temperature=1.0, max_tokens=64, seed=7)
    with VLLMPolicy(with_options, prompter) as policy:
        completions = asyncio.run(policy.generate(prompt_ids, sampling))
    model = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32)
    assert len({one.token_ids for one in completions}) > 1
    for one in completions:
        ids = torch.tensor([[*prompt_ids, *one.token_ids]])
        with torch.no_grad():
            logits_TV = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
        expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(one.behaviour_logprobs_T), expected_T, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options", [{"speculative_config": SPECULATION}, {"pipeline_parallel_size": 2}], ids=["speculation", "pp"]
)
def test_hinted_decoding_refuses_what_it_cannot_step_with(options: dict[str, JsonValue]) -> None:
    with_options = target(**options)
    with pytest.raises(ConfigError, match=next(iter(options))):
        VLLMHintedDecoder(with_options, load_prompter(with_options.model, PROMPTS))
