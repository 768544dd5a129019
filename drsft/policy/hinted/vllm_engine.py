"""The HintedDecoder that decodes in the vLLM engine which also draws the samples of all other phases."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Self

from drsft.config import Engine, Mixing, Target
from drsft.errors import ConfigError
from drsft.policy.hinted.admission import Admission, AdmitInStep
from drsft.policy.hinted.continuation import start_continuations
from drsft.policy.hinted.paired_rows import Pair, PairedRows, check_interface
from drsft.policy.hinted.paired_sampler import PairedRequest, PairedSampler
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.prompts import Prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.sampler import PlainSampler
from drsft.policy.vllm.start_phases import OnPhase
from drsft.records import Completion, Sampling

__all__ = ["VLLMHintedDecoder"]


class VLLMHintedDecoder:
    """A HintedDecoder in vLLM; `policy` samples plainly in the same engine, and `close()` stops both.

    Raises SetupError on any vLLM version but the supported one, and ConfigError if the engine is spread over
    several GPUs or speculates.
    """

    def __init__(
        self,
        target: Target,
        prompter: Prompter,
        *,
        engine_options: Mapping[str, Any] | None = None,
        admission: Admission | None = None,
        on_phase: OnPhase = lambda phase: None,
    ) -> None:
        _check_is_one_process(target.engine)
        check_interface()
        self.counts = PairCounts()
        self._prompter = prompter
        self._stop_ids = frozenset(prompter.turn.end_token_ids)
        self._numbers = itertools.count()
        paired_rows = PairedRows()
        options = {
            "logits_processors": [paired_rows.processor()],
            "async_scheduling": False,  # a token must be known before the next is drawn
            **(engine_options or {}),
        }

        def wrap(plain: PlainSampler) -> PairedSampler:
            return PairedSampler(plain, paired_rows, self._stop_ids, admission or AdmitInStep(), self.counts)

        self.policy = VLLMPolicy(target, prompter, engine_options=options, wrap=wrap, on_phase=on_phase)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.policy.close()

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        continuations = start_continuations(
            contexts,
            mixing,
            sampling,
            max_model_len=self.policy.max_model_len,
            stop_ids=self._stop_ids,
            decode=self._prompter.decode,
            read=self._prompter.read,
        )
        engine_loop, loop = self.policy.loop, asyncio.get_running_loop()
        request = PairedRequest(engine_loop.new_request_id(), [], loop.create_future(), loop)
        request.pairs.extend(
            Pair(number=next(self._numbers), contexts=contexts, continuation=one, owner=request)
            for one in continuations
        )
        engine_loop.add(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            engine_loop.cancel(request.request_id)
            raise


def _check_is_one_process(engine: Engine) -> None:
    several = {
        "tensor_parallel_size": engine.tensor_parallel_size,
        "options.pipeline_parallel_size": engine.options.get("pipeline_parallel_size", 1),
    }
    for name, size in several.items():
        if size != 1:
            raise ConfigError(
                f"target.engine.{name}: Hinted Decoding in vLLM needs 1, not {size}, since it mixes logits "
                "in its own process; set 1, or set rewrite.hinted.engine: torch"
            )
    for name in ("speculative_config", "spec_method"):
        if engine.options.get(name):
            raise ConfigError(
                f"target.engine.options.{name}: Hinted Decoding in vLLM draws token by token and cannot "
                "speculate; leave this option out, or set rewrite.hinted.engine: torch"
            )
