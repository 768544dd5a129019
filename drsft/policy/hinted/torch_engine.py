"""Hinted Decoding on one copy of a transformers model: two rows for each problem in one forward.

Continuous: a problem that ends frees its rows at once, and the next one enters beside those still decoding.
The reference for the vLLM engine, and the path on a GPU without vLLM.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from drsft.config import Mixing, Target
from drsft.errors import InputError, ModelError, StageError
from drsft.policy.hinted.attention import group_queries
from drsft.policy.hinted.batch import Rows, compaction, rows_for
from drsft.policy.hinted.continuation import Continuation
from drsft.policy.hinted.extend import extend
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.hinted.stop_tokens import stop_ids
from drsft.policy.prompts import Prompter, model_location
from drsft.records import Completion, Sampling

__all__ = ["TorchHintedDecoder", "load_model"]


class _Request:
    """Samples of one problem; the future is settled when the last of them ends."""

    def __init__(self, contexts: Contexts, continuations: Sequence[Continuation]) -> None:
        self.contexts, self.continuations = contexts, continuations
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Completion]] = self.loop.create_future()

    def settle_if_done(self) -> None:
        if all(one.finish_reason for one in self.continuations):
            self._tell([one.completion() for one in self.continuations])

    def fail(self, error: Exception) -> None:
        self._tell(error)

    def _tell(self, result: list[Completion] | Exception) -> None:
        def settle() -> None:
            if self.future.done():  # cancelled meanwhile
                return
            if isinstance(result, Exception):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle)


class TorchHintedDecoder:
    """At most `max_num_seqs` // 2 problems decode at once; the others wait.

    Raises ModelError when the model cannot be loaded; after a failure every call is a StageError.
    """

    def __init__(self, target: Target, prompter: Prompter) -> None:
        self._model = load_model(target)
        self._prompter = prompter
        self._stop_ids = stop_ids(target, prompter)
        self._max_model_len = target.max_model_len
        self._max_pairs = max(1, target.engine.max_num_seqs // 2)
        self._vocab_size = int(self._model.config.get_text_config(decoder=True).vocab_size)
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[_Request, Continuation]] = deque()
        self._pairs: list[tuple[_Request, Continuation]] = []  # pair i has the rows 2i (hinted) and 2i + 1
        self._rows: Rows = rows_for(self._model)
        self._failure: Exception | None = None
        self.counts = PairCounts()  # here no pair can fall out of step
        self._thread = threading.Thread(target=self._run, name="hinted-steps", daemon=True)
        self._thread.start()

    def __enter__(self) -> "TorchHintedDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        room = self._max_model_len - contexts.longest
        if room <= 0:
            raise InputError(f"prompt of {contexts.longest} tokens leaves no room in {self._max_model_len}")
        continuations = [
            Continuation(
                mixing,
                sampling,
                sample_index=index,
                max_tokens=min(sampling.max_tokens, room),
                stop_ids=self._stop_ids,
                decode=self._prompter.decode,
            )
            for index in range(sampling.num_samples)
        ]
        request = _Request(contexts, continuations)
        self._inbox.put(request)
        return await request.future

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_requests():
                self._advance()
        except Exception as error:  # whatever it was, every waiter must hear of it
            self._failure = error
            for request, _ in (*self._pairs, *self._waiting):
                request.fail(self._death())
            while (message := self._inbox.get()) is not None:
                message.fail(self._death())

    def _death(self) -> StageError:
        return StageError(f"the torch engine of Hinted Decoding died: {self._failure!r}")

    def _take_requests(self) -> bool:
        """Everything in the inbox; waits only while there is nothing to do. False: close."""
        while True:
            try:
                message = self._inbox.get(block=not (self._pairs or self._waiting))
            except queue.Empty:
                return True
            if message is None:
                return False
            self._waiting += [(message, one) for one in message.continuations]
            self.counts.num_pairs += len(message.continuations)

    def _advance(self) -> None:
        """One token more for every problem that is in, and the first for those that enter."""
        self._let_go()
        logits = []
        if self._pairs:
            tokens = [one.token_ids[-1] for _, one in self._pairs]
            logits.append(self._rows.step([token for token in tokens for _ in ("hinted", "plain")]))
        entering = self._admit()
        if entering:
            prompts = [
                ids for one, _ in entering for ids in (one.contexts.hinted_ids, one.contexts.plain_ids)
            ]
            logits.append(self._rows.enter(prompts))
            self._pairs += entering
        if not logits:
            return
        logits_BV = torch.cat(logits)
        continuations = [one for _, one in self._pairs]
        extend(continuations, logits_BV[0::2], logits_BV[1::2], vocab_size=self._vocab_size)
        for request, one in self._pairs:
            if one.finish_reason:
                request.settle_if_done()

    def _admit(self) -> list[tuple[_Request, Continuation]]:
        entering: list[tuple[_Request, Continuation]] = []
        while self._waiting and len(self._pairs) + len(entering) < self._max_pairs:
            request, one = self._waiting.popleft()
            if not request.future.cancelled():
                entering.append((request, one))
        return entering

    def _let_go(self) -> None:
        """Problems that ended or are no longer wanted free their rows."""
        leaving = [
            index
            for index, (request, one) in enumerate(self._pairs)
            if one.finish_reason or request.future.cancelled()
        ]
        if not leaving:
            return
        self._rows.leave([row for index in leaving for row in (2 * index, 2 * index + 1)])
        for place, mover in compaction(len(self._pairs), leaving):
            self._pairs[place] = self._pairs[mover]
        del self._pairs[len(self._pairs) - len(leaving) :]


def load_model(target: Target) -> Any:
    """On the GPU where there is one. Raises ModelError."""
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_location(target.model),
            dtype=getattr(torch, target.dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"target.model {target.model!r}: cannot be loaded: {reason}") from error
    group_queries(model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
