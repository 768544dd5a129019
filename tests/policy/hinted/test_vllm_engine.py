"""Pairs in step in a real vLLM engine: the slow oracle's tokens, whatever the engine does to them."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from drsft.config import Constant, Linear, LoopGuard, Mixing
from drsft.errors import ConfigError, InputError, SetupError
from drsft.policy.hinted import paired_rows
from drsft.policy.hinted.admission import Admission, AdmitAtOnce, AdmitInStep
from drsft.policy.hinted.paired_sampler import PairedSampler
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.hinted.torch_engine import TorchHintedDecoder
from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder
from drsft.policy.prompts import Prompter
from drsft.records import Sampling
from tests.policy.hinted.test_torch_engine import contexts, decoded, greedy, prompter, target

__all__ = ["contexts", "prompter"]

pytestmark = pytest.mark.engine

TEMPERED = Sampling(num_samples=1, temperature=0.3, max_tokens=96, seed=3, top_p=0.95)
Tokens = dict[float, list[tuple[int, ...]]]


@pytest.fixture
def engine(prompter: Prompter) -> Iterator[VLLMHintedDecoder]:
    """A new one for each test: one engine's end takes the process's parallel groups from any other."""
    with VLLMHintedDecoder(target(64), prompter) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(prompter: Prompter, contexts: list[Contexts]) -> Tokens:
    """Of the torch engine, which test_hinted_torch.py holds to the oracle."""
    with TorchHintedDecoder(target(), prompter) as decoder:
        return {
            sampling.temperature: [one.token_ids for one in decoded(decoder, contexts, sampling)]
            for sampling in (greedy(), TEMPERED)
        }


def tokens(engine: Any, contexts: Sequence[Contexts], sampling: Sampling) -> list[tuple[int, ...]]:
    return [one.token_ids for one in decoded(engine, contexts, sampling)]


def test_a_pair_gets_the_tokens_of_the_torch_engine_beside_other_requests(
    engine: VLLMHintedDecoder, contexts: list[Contexts], expected: Tokens
) -> None:
    async def together(sampling: Sampling) -> list[tuple[int, ...]]:
        plain = greedy(temperature=1.0, num_samples=3, max_tokens=64)
        others = [asyncio.create_task(engine.policy.generate(one.plain_ids, plain)) for one in contexts[:20]]
        found = await asyncio.gather(*(engine.decode(one, Mixing(), sampling) for one in contexts))
        await asyncio.gather(*others)
        return [completions[0].token_ids for completions in found]

    for sampling in (greedy(), TEMPERED):
        assert asyncio.run(together(sampling)) == expected[sampling.temperature]
    assert engine.counts.num_redone == 0


@pytest.mark.parametrize("is_hinted", [True, False])
def test_one_context_alone_is_that_prompts_plain_decoding(
    engine: VLLMHintedDecoder, contexts: list[Contexts], is_hinted: bool
) -> None:
    schedule = Linear(beta=0) if is_hinted else Constant(weight=1)
    mixing = Mixing(schedule=schedule, hinted_first_token=False, answer_marker=None)
    found = decoded(engine, contexts[:20], greedy(), mixing)

    async def plainly() -> list[tuple[int, ...]]:
        prompts = [one.hinted_ids if is_hinted else one.plain_ids for one in contexts[:20]]
        answers = await asyncio.gather(*(engine.policy.generate(prompt, greedy()) for prompt in prompts))
        return [completions[0].token_ids for completions in answers]

    assert [one.token_ids for one in found] == asyncio.run(plainly())


def test_log_probs_and_ends_are_those_of_the_torch_engine(
    engine: VLLMHintedDecoder, prompter: Prompter, contexts: list[Contexts]
) -> None:
    guard = Mixing(loop_guard=LoopGuard(every_tokens=5, ngram_tokens=1, repeats=2))
    with TorchHintedDecoder(target(), prompter) as decoder:
        for mixing, sampling in ((Mixing(), TEMPERED), (guard, greedy()), (Mixing(), greedy(max_tokens=4))):
            ours, theirs = (decoded(one, contexts[:12], sampling, mixing) for one in (engine, decoder))
            for a, b in zip(ours, theirs, strict=True):
                assert (a.token_ids, a.finish_reason, a.text) == (b.token_ids, b.finish_reason, b.text)
                assert a.behaviour_logprobs_T == pytest.approx(b.behaviour_logprobs_T, abs=1e-3)
            if mixing is guard:
                assert "loop" in {one.finish_reason for one in ours}


STRESS: dict[str, Mapping[str, Any]] = {
    "odd number of sequences": {"max_num_seqs": 9},
    "chunked prefill": {
        "enable_chunked_prefill": True, "max_num_batched_tokens": 200, "max_num_seqs": 21,
    },
    "cache for a few": {"kv_cache_memory_bytes": 2 << 20, "block_size": 32},
}  # fmt: skip


@pytest.mark.parametrize("admission", [AdmitInStep(), AdmitAtOnce()])
@pytest.mark.parametrize("stress", STRESS)
def test_under_stress_every_result_is_the_same(
    prompter: Prompter, contexts: list[Contexts], expected: Tokens, stress: str, admission: Admission
) -> None:
    options = STRESS[stress]
    with VLLMHintedDecoder(target(64), prompter, engine_options=options, admission=admission) as engine:
        for sampling in (greedy(), TEMPERED):
            assert tokens(engine, contexts[:24], sampling) == expected[sampling.temperature][:24]
        print(f"{type(admission).__name__}, {stress}: {engine.counts}")
        assert (engine.counts.num_redone > 0) == isinstance(admission, AdmitAtOnce)


def test_pairs_whose_prompts_never_fit_one_step_are_decoded_apart(
    prompter: Prompter, contexts: list[Contexts], expected: Tokens
) -> None:
    budget = {"enable_chunked_prefill": True, "max_num_batched_tokens": 96, "max_num_seqs": 16}
    with VLLMHintedDecoder(target(64), prompter, engine_options=budget) as engine:
        assert tokens(engine, contexts[:8], greedy()) == expected[0.0][:8]
        assert engine.counts.num_apart > 0


def test_cancelled_pairs_and_long_prompts_leave_the_engine_empty(
    engine: VLLMHintedDecoder, contexts: list[Contexts]
) -> None:
    async def cancel() -> None:
        tasks = [asyncio.create_task(engine.decode(one, Mixing(), greedy())) for one in contexts]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.decode(contexts[0], Mixing(), greedy())

    asyncio.run(cancel())
    sampler = engine.policy.loop.engine
    assert isinstance(sampler, PairedSampler)
    assert not sampler.plain.engine.has_unfinished_requests()
    assert not sampler.unfinished()
    assert sampler.counts().num_in_flight == 0
    assert not sampler._paired_rows.pairs
    with pytest.raises(InputError, match="512"):
        decoded(engine, [Contexts(hinted_ids=(5,) * 512, plain_ids=(5,))], greedy())


def test_another_vllm_and_several_gpus_are_one_clear_line(
    prompter: Prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired_rows, "VLLM_VERSION", "0.99.")
    with pytest.raises(SetupError, match=r"0\.99\.x and found 0\.32"):
        VLLMHintedDecoder(target(), prompter)
    monkeypatch.undo()
    monkeypatch.setenv(paired_rows.RUNNER_VARIABLE, "1")
    with pytest.raises(SetupError, match="newer model runner"):
        VLLMHintedDecoder(target(), prompter)
    monkeypatch.undo()
    wide = target().model_copy(
        update={"engine": target().engine.model_copy(update={"tensor_parallel_size": 2})}
    )
    with pytest.raises(ConfigError, match="tensor_parallel_size"):
        VLLMHintedDecoder(wide, prompter)
