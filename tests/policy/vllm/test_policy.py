"""The policy on a real engine: what it promises about tokens, log-probs, cancelling and failing."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import Engine, Prompts, Target
from drsft.errors import InputError, ModelError, StageError
from drsft.policy.prompts import Prompter, load_prompter, model_location
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.sampler import PlainSampler
from drsft.policy.vllm.start_phases import EnginePhase
from drsft.records import FinishReason, Problem, Sampling

pytestmark = pytest.mark.engine

TARGET = Target(
    model="embedded",
    dtype="float32",
    max_model_len=256,
    prompts=Prompts(plain="{question}", guided="{question}{demonstration}"),
    engine=Engine(max_num_seqs=64, kv_cache_mib=64, enforce_eager=True),
)
QUESTION = "Ann has 43 cups, gets 46, gives 7. How many?"


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter(TARGET.model, TARGET.prompts)


@pytest.fixture(scope="module")
def policy(prompter: Prompter) -> Iterator[VLLMPolicy]:
    with VLLMPolicy(TARGET, prompter) as policy:
        yield policy


@pytest.fixture(scope="module")
def prompt_ids(prompter: Prompter) -> tuple[int, ...]:
    return prompter.plain(Problem(problem_id="p", question=QUESTION, demonstration="", reference="82"))


def engine_of(policy: VLLMPolicy) -> Any:
    """vLLM's engine, beneath the loop that steps it."""
    assert isinstance(policy.loop.engine, PlainSampler)
    return policy.loop.engine.engine


def sampling(**changes: float) -> Sampling:
    fields = {"num_samples": 4, "temperature": 1.0, "max_tokens": 64, "seed": 7, **changes}
    return Sampling(**fields)  # type: ignore[arg-type]


async def test_a_seed_gives_the_same_tokens_alone_and_in_company(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    alone = await policy.generate(prompt_ids, sampling())
    company = await asyncio.gather(*(policy.generate(prompt_ids, sampling(seed=7 + n)) for n in range(16)))
    assert [one.token_ids for one in company[0]] == [one.token_ids for one in alone]
    assert company[0][1].token_ids == company[1][0].token_ids, "sample i of a request has seed + i"
    assert len({one.token_ids for request in company for one in request}) > 4


@pytest.mark.parametrize("temperature", [1.0, 0.5])
async def test_behaviour_logprobs_are_those_of_the_tempered_model(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...], temperature: float
) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32)
    for completion in await policy.generate(prompt_ids, sampling(temperature=temperature)):
        ids = torch.tensor([[*prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            logits_TV = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1] / temperature
        expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(
            torch.tensor(completion.behaviour_logprobs_T), expected_T, atol=1e-4, rtol=0
        )


async def test_the_logprobs_of_a_text_are_those_of_the_model(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    """With the prompt in the engine's cache and without, among samples and alone."""
    model = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32)
    completions = [one.token_ids for one in await policy.generate(prompt_ids, sampling())]
    long_prompt = prompt_ids * 2  # longer than one of the cache's blocks
    questions = [(prompt, ids) for prompt in (prompt_ids, long_prompt) for ids in completions]
    asked = [policy.logprobs(*one) for one in questions]
    *scores, _ = await asyncio.gather(*asked, policy.generate(long_prompt, sampling(seed=99)))
    scores_again = await asyncio.gather(*(policy.logprobs(*one) for one in questions))
    for (prompt, ids), found, again in zip(questions, scores, scores_again, strict=True):
        with torch.no_grad():
            logits_TV = model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[
                0, len(prompt) - 1 : -1
            ]
        expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found), expected_T, atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(again), expected_T, atol=1e-4, rtol=0)


async def test_texts_that_begin_alike_are_scored_as_if_alone(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    """Blocks of the cache then hold the beginning of the text too, whose log-probs vLLM leaves out."""
    model = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32)
    text = next(one.token_ids for one in await policy.generate(prompt_ids, sampling()))
    shared = (text * 5)[:100]
    for ids in (shared, (*shared, *text), (*shared[:-1], text[0], *text), shared):
        found = await policy.logprobs(prompt_ids, ids)
        with torch.no_grad():
            logits_TV = model(torch.tensor([[*prompt_ids, *ids]])).logits[0, len(prompt_ids) - 1 : -1]
        expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found), expected_T, atol=1e-4, rtol=0)


async def test_a_text_that_fills_the_engine_is_scored_but_for_its_last_token(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    text = (5,) * (policy.max_model_len - len(prompt_ids))
    assert len(await policy.logprobs(prompt_ids, text)) == len(text) - 1
    with pytest.raises(InputError, match=r"target\.max_model_len: 256"):
        await policy.logprobs(prompt_ids, (*text, 5))
    with pytest.raises(InputError, match="embedding"):
        await policy.logprobs(prompt_ids, (10**6,))


async def test_a_cancelled_score_leaves_nothing_behind(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    waiting = asyncio.create_task(policy.logprobs(prompt_ids, (5,) * 100))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await policy.logprobs(prompt_ids, (5, 6))
    assert policy.num_pending == 0


async def test_stopping_and_being_cut_off_are_told_apart(
    policy: VLLMPolicy, prompter: Prompter, prompt_ids: tuple[int, ...]
) -> None:
    whole = await policy.generate(prompt_ids, sampling(max_tokens=128))
    assert all(one.finish_reason == "stop" for one in whole)
    assert all(one.token_ids[-1] == prompter.end_of_turn_id for one in whole)
    assert all("<|im_end|>" not in one.text for one in whole)
    cut = await policy.generate(prompt_ids, sampling(max_tokens=3))
    assert all(one.finish_reason == "length" and len(one.token_ids) == 3 for one in cut)


async def test_a_prompt_that_does_not_fit_is_the_callers_mistake(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="256"):
        await policy.generate(prompt_ids * 40, sampling())
    assert await policy.generate(prompt_ids, sampling())


async def test_streamed_tokens_are_those_of_the_result_and_streaming_changes_nothing(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    told: dict[int, list[int]] = {index: [] for index in range(4)}
    streamed = await policy.generate(
        prompt_ids, sampling(), on_tokens=lambda index, token_ids: told[index].extend(token_ids)
    )
    plain = await policy.generate(prompt_ids, sampling())
    assert streamed == plain
    assert [tuple(told[index]) for index in range(4)] == [one.token_ids for one in streamed]


async def test_a_working_engine_passes_its_check(policy: VLLMPolicy, prompt_ids: tuple[int, ...]) -> None:
    policy.check(max_silence_s=30)
    work = asyncio.gather(*(policy.generate(prompt_ids, sampling(seed=seed)) for seed in range(8)))
    await asyncio.sleep(0)
    policy.check(max_silence_s=30)
    await work


async def test_an_engine_that_had_nothing_to_do_is_not_stuck_in_its_first_step(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, checked = engine_of(policy).step, []

    def checked_step() -> Any:
        try:
            policy.check(max_silence_s=30)
            checked.append("healthy")
        except StageError as error:
            checked.append(str(error))
        return step()

    monkeypatch.setattr(engine_of(policy), "step", checked_step)
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
    monkeypatch.setattr("drsft.policy.engine_loop.time", late)
    await policy.generate(prompt_ids, sampling())
    assert set(checked) == {"healthy"}


async def test_cancelling_frees_the_engine(policy: VLLMPolicy, prompt_ids: tuple[int, ...]) -> None:
    tasks = [asyncio.create_task(policy.generate(prompt_ids, sampling(seed=n))) for n in range(32)]
    await asyncio.wait(tasks, timeout=0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await policy.generate(prompt_ids, sampling())
    assert not engine_of(policy).has_unfinished_requests()


async def test_a_stopped_sample_leaves_the_others_as_they_were(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    whole = await policy.generate(prompt_ids, sampling(max_tokens=128))
    draws = policy.draw(prompt_ids, sampling(max_tokens=128))
    draws[2].stop()
    results = [await draw.completion for draw in draws]
    assert results[2].finish_reason == FinishReason.STOPPED
    assert results[2].token_ids == whole[2].token_ids[: len(results[2].token_ids)]
    assert len(results[2].token_ids) < len(whole[2].token_ids)
    assert [results[i].token_ids for i in (0, 1, 3)] == [whole[i].token_ids for i in (0, 1, 3)]
    draws[0].stop()  # too late to matter
    assert (await draws[0].completion).finish_reason == "stop"
    assert not engine_of(policy).has_unfinished_requests()


async def test_an_engine_counts_every_token_once_and_knows_what_is_in_flight(
    policy: VLLMPolicy, prompt_ids: tuple[int, ...]
) -> None:
    before = policy.counts()
    assert before.num_in_flight == 0
    draws = policy.draw(prompt_ids, sampling(num_samples=8, max_tokens=100))
    scored = asyncio.create_task(policy.logprobs(prompt_ids, (5,) * 20))
    seen = []
    while not all(draw.completion.done() for draw in draws):
        seen.append(policy.counts())
        if len(seen) == 3:
            draws[0].stop()
        await asyncio.wait([draw.completion for draw in draws], timeout=0.002)
    await scored
    completions = [await draw.completion for draw in draws]
    after = policy.counts()
    assert after.num_tokens - before.num_tokens == sum(len(one.token_ids) for one in completions)
    assert after.num_in_flight == 0
    assert max(one.num_in_flight for one in seen) <= 8, "a text that is scored is no sample"
    assert any(before.num_tokens < one.num_tokens < after.num_tokens for one in seen)


def test_an_engine_tells_what_it_does_until_it_is_ready(prompter: Prompter) -> None:
    phases: list[EnginePhase] = []
    with VLLMPolicy(TARGET, prompter, on_phase=phases.append):
        expected = [EnginePhase.LOADING, EnginePhase.READING, EnginePhase.WARMING_UP, EnginePhase.READY]
        assert phases == expected


def test_a_folder_that_is_no_model_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, prompter: Prompter
) -> None:
    empty = str(tmp_path_factory.mktemp("model"))
    with pytest.raises(ModelError) as caught:
        VLLMPolicy(TARGET.model_copy(update={"model": empty}), prompter)
    assert "\n" not in str(caught.value)


def test_an_engine_that_dies_tells_every_waiter_and_everyone_after(
    prompter: Prompter, prompt_ids: tuple[int, ...]
) -> None:
    async def ask(policy: VLLMPolicy) -> None:
        waiting = [asyncio.create_task(policy.generate(prompt_ids, sampling())) for _ in range(3)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, StageError) for result in results)
        with pytest.raises(StageError, match="engine died"):
            await policy.generate(prompt_ids, sampling())

    with VLLMPolicy(TARGET, prompter) as policy:
        engine_of(policy).step = lambda: 1 / 0
        asyncio.run(ask(policy))


def test_a_plain_script_that_loaded_torch_before_needs_no_environment() -> None:
    """vLLM's kernels stop the process when OpenMP's thread count changes after torch was loaded."""
    script = """
import asyncio, torch
from drsft.config import Engine, Target
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.sampler import PlainSampler
from drsft.records import Sampling
engine = Engine(max_num_seqs=8, kv_cache_mib=64, enforce_eager=True)
target = Target(model="embedded", dtype="float32", max_model_len=256, engine=engine)
prompter = load_prompter(target.model, target.prompts)
with VLLMPolicy(target, prompter) as policy:
    sampling = Sampling(num_samples=2, temperature=1.0, max_tokens=8, seed=0)
    print(len(asyncio.run(policy.generate(prompter.completion("Ann has 3 cups."), sampling))))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().endswith("2"), done.stderr[-2000:]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU ranks cost nothing that can be measured")
def test_no_ranks_are_counted_and_log_probs_are_as_vllm_reads_them(policy: VLLMPolicy) -> None:
    from vllm.v1.sample.sampler import Sampler

    logprobs = torch.randn(5, 40).log_softmax(-1)
    ids = torch.randint(40, (5,))
    read = Sampler.gather_logprobs(logprobs, 0, ids)
    assert torch.equal(read.logprobs[:, 0], logprobs[torch.arange(5), ids])
    assert read.selected_token_ranks.tolist() == [0] * 5
