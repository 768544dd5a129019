"""Runs Hinted Decoding on one copy of a transformers model: two rows for each sample in one forward pass.

Batching is continuous: a finished sample frees its rows at once, and the next one enters. This is the
reference for the vLLM engine, and the only engine on a GPU without vLLM.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from drsft.config import Mixing, Target
from drsft.errors import ModelError
from drsft.policy.engine_loop import (
    EngineCounts,
    EngineLoop,
    EngineRequest,
    check_token_ids,
    first_line,
    settle,
)
from drsft.policy.hinted.attention import group_queries
from drsft.policy.hinted.continuation import Continuation, start_continuations
from drsft.policy.hinted.decode_step import decode_step
from drsft.policy.hinted.kv_cache import Rows, compaction, rows_for
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.prompts import Prompter, model_location
from drsft.policy.vocabulary import ids_without_text
from drsft.records import Completion, Sampling

__all__ = ["TorchHintedDecoder", "load_model"]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """Samples of one problem; the future gets their completions when the last of them ends."""

    request_id: str
    contexts: Contexts
    continuations: Sequence[Continuation]
    future: asyncio.Future[list[Completion]]
    loop: asyncio.AbstractEventLoop


class TorchHintedDecoder:
    """A HintedDecoder on a torch model. It decodes at most `max_num_seqs` // 2 samples at once; the others
    wait.

    Raises ModelError when the model cannot be loaded; after a failure every call raises StageError.
    """

    def __init__(self, target: Target, prompter: Prompter) -> None:
        self._prompter = prompter
        self._stop_ids = frozenset(prompter.turn.end_token_ids)
        self._max_model_len = target.max_model_len
        self.counts = PairCounts()  # here no pair can fall out of step
        self.model = load_model(target)
        max_pairs = max(1, target.engine.max_num_seqs // 2)
        self._loop = EngineLoop(
            lambda: _TorchEngine(self.model, prompter, max_pairs), name="torch engine of Hinted Decoding"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        continuations = start_continuations(
            contexts,
            mixing,
            sampling,
            max_model_len=self._max_model_len,
            stop_ids=self._stop_ids,
            decode=self._prompter.decode,
            read=self._prompter.read,
        )
        self.counts.num_pairs += len(continuations)
        loop = asyncio.get_running_loop()
        request = _Request(self._loop.new_request_id(), contexts, continuations, loop.create_future(), loop)
        self._loop.add(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._loop.cancel(request.request_id)
            raise

    @property
    def busy_s(self) -> float:
        return self._loop.busy_s

    def close(self) -> None:
        self._loop.close()


class _TorchEngine:
    """The rows of all problems in flight, stepped by an EngineLoop."""

    def __init__(self, model: Any, prompter: Prompter, max_pairs: int) -> None:
        self._max_pairs = max_pairs
        self._vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
        textless_ids = ids_without_text(prompter.tokenizer, self._vocab_size)
        self._textless_ids = torch.tensor(textless_ids, dtype=torch.long, device=model.device)
        self._waiting: deque[tuple[_Request, Continuation]] = deque()
        self._pairs: list[tuple[_Request, Continuation]] = []  # pair i has the rows 2i (hinted) and 2i + 1
        self._rows: Rows = rows_for(model)
        self._num_ended = self._num_ended_tokens = 0

    @property
    def is_idle(self) -> bool:
        return not (self._pairs or self._waiting)

    def counts(self) -> EngineCounts:
        open_ones = [one for _, one in (*list(self._pairs), *list(self._waiting))]
        num_tokens = sum(len(one.token_ids) for one in open_ones)
        return EngineCounts(self._num_ended_tokens + num_tokens, len(open_ones), self._num_ended)

    def unfinished(self) -> Sequence[EngineRequest]:
        requests = {id(request): request for request, _ in (*self._pairs, *self._waiting)}
        return list(requests.values())

    def add(self, request: _Request) -> None:
        for ids in (request.contexts.hinted_ids, request.contexts.plain_ids):
            check_token_ids(ids, self._vocab_size)
        self._waiting += [(request, one) for one in request.continuations]

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(one for one in self._waiting if one[0].request_id != request_id)
        self._remove([i for i, (request, _) in enumerate(self._pairs) if request.request_id == request_id])

    def step(self) -> None:
        """Draws one more token for every problem in the batch, and the first one for entering problems."""
        logits = []
        if self._pairs:
            tokens = [one.token_ids[-1] for _, one in self._pairs]
            logits.append(self._rows.step([token for token in tokens for _ in ("hinted", "plain")]))
        entering = self._admit()
        if entering:
            prompts = [
                ids
                for request, _ in entering
                for ids in (request.contexts.hinted_ids, request.contexts.plain_ids)
            ]
            self._pairs += entering
            logits.append(self._rows.enter(prompts))
        logits_BV = torch.cat(logits).index_fill_(-1, self._textless_ids, -torch.inf)
        continuations = [one for _, one in self._pairs]
        decode_step(continuations, logits_BV[0::2], logits_BV[1::2], vocab_size=self._vocab_size)
        self._end()

    def close(self) -> None:
        del self._rows

    def _admit(self) -> list[tuple[_Request, Continuation]]:
        num_free = self._max_pairs - len(self._pairs)
        return [self._waiting.popleft() for _ in range(min(num_free, len(self._waiting)))]

    def _end(self) -> None:
        """Sets the results of the requests whose last sample has ended, and frees the rows of ended
        samples.
        """
        ended = [index for index, (_, one) in enumerate(self._pairs) if one.finish_reason]
        requests = {id(request): request for request in (self._pairs[index][0] for index in ended)}
        self._remove(ended)
        for request in requests.values():
            if all(one.finish_reason for one in request.continuations):
                settle([(request, [one.completion() for one in request.continuations])])

    def _remove(self, leaving: Sequence[int]) -> None:
        """Frees the rows of these pairs; the last pairs and their rows move into the free places."""
        if not leaving:
            return
        self._num_ended += len(leaving)
        self._num_ended_tokens += sum(len(self._pairs[index][1].token_ids) for index in leaving)
        self._rows.leave([row for index in leaving for row in (2 * index, 2 * index + 1)])
        for place, mover in compaction(len(self._pairs), leaving):
            self._pairs[place] = self._pairs[mover]
        del self._pairs[len(self._pairs) - len(leaving) :]


def load_model(target: Target) -> Any:
    """Returns the target model in evaluation mode, on the GPU if there is one. Raises ModelError if it cannot
    be loaded.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_location(target.model),
            dtype=getattr(torch, target.dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"target.model {target.model!r}: cannot be loaded: {first_line(error)}") from error
    group_queries(model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
