"""The queue of pairs and samples before a vLLM engine, without the engine: nothing here enters it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from drsft.config import Mixing
from drsft.errors import InputError
from drsft.policy.hinted.admission import AdmitInStep
from drsft.policy.hinted.continuation import start_continuations
from drsft.policy.hinted.paired_rows import Pair, PairedRows
from drsft.policy.hinted.paired_sampler import PairedRequest, PairedSampler
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.vllm.sampler import PlainSampler, SampleRequest, SharedPrompt
from drsft.records import FinishReason, Sampling

SAMPLING = Sampling(num_samples=2, temperature=1.0, max_tokens=4, seed=0)


class EmptyPlainSampler(PlainSampler):
    """Has no engine; whatever reaches one fails."""

    def __init__(self) -> None:
        self.engine, self.pending, self.num_embeddings = None, {}, 10


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def sampler() -> PairedSampler:
    return PairedSampler(EmptyPlainSampler(), PairedRows(), frozenset({1}), AdmitInStep(), PairCounts())


def paired_request(loop: asyncio.AbstractEventLoop, hinted_ids: tuple[int, ...] = (3, 4)) -> PairedRequest:
    contexts = Contexts(hinted_ids=hinted_ids, plain_ids=(3,))
    request = PairedRequest("pairs", [], loop.create_future(), loop)
    continuations = start_continuations(
        contexts, Mixing(), SAMPLING, max_model_len=20, stop_ids=frozenset({1}), decode=str
    )
    request.pairs.extend(
        Pair(number=number, contexts=contexts, continuation=one, owner=request)
        for number, one in enumerate(continuations)
    )
    return request


def sample_request(loop: asyncio.AbstractEventLoop) -> SampleRequest:
    return SampleRequest("sample", 0, SharedPrompt([3], SAMPLING), loop.create_future(), loop)


def settled(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(future, 30))


def test_a_sample_behind_pairs_that_are_cancelled_keeps_the_engine_busy(
    sampler: PairedSampler, loop: asyncio.AbstractEventLoop
) -> None:
    sample = sample_request(loop)
    sampler.add(paired_request(loop))
    sampler.add(sample)
    sampler.cancel("pairs")
    assert list(sampler.unfinished()) == [sample]
    assert not sampler.is_idle, "or the loop would wait for a message, and the sample for ever"


def test_a_sample_that_is_stopped_in_the_queue_has_no_tokens(
    sampler: PairedSampler, loop: asyncio.AbstractEventLoop
) -> None:
    sample, pairs = sample_request(loop), paired_request(loop)
    sampler.add(pairs)
    sampler.add(sample)
    sampler.cancel("sample")
    assert settled(loop, sample.future).finish_reason is FinishReason.STOPPED
    assert list(sampler.unfinished()) == [pairs]


def test_a_pair_that_cannot_enter_ends_its_own_request_alone(
    sampler: PairedSampler, loop: asyncio.AbstractEventLoop
) -> None:
    pairs = paired_request(loop)
    sampler.add(pairs)
    sampler._admit()  # there is no engine to enter
    with pytest.raises(InputError, match="the engine rejected a request"):
        settled(loop, pairs.future)
    assert sampler.is_idle
    assert sampler._paired_rows.pairs == {}


def test_contexts_beyond_the_embedding_are_refused_before_anything_waits(
    sampler: PairedSampler, loop: asyncio.AbstractEventLoop
) -> None:
    with pytest.raises(InputError, match="token id 10, and the model's embedding has 10 rows"):
        sampler.add(paired_request(loop, hinted_ids=(3, 10)))
    assert sampler.is_idle
