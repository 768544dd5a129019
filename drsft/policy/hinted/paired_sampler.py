"""Runs pairs of Hinted Decoding and plain samples in one vLLM engine and one batch.

A pair is two requests, one for each prompt of a problem. It enters only when both fit in the same step
(admission.py). If a pair still falls out of step (paired_rows.py), it resumes from its last confirmed token.
If it does so twice without gaining a token, it is decoded separately: each token takes two requests, one for
each context's logits, and is drawn here. That is slow but always correct.

Everything runs in the thread of an EngineLoop.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drsft.policy.engine_loop import EngineCounts, EngineRequest, check_token_ids, refusal, settle
from drsft.policy.hinted.admission import Admission, must_separate
from drsft.policy.hinted.decode_step import decode_step
from drsft.policy.hinted.paired_rows import (
    HINTED,
    PLAIN,
    ROW_KEY,
    Pair,
    PairedRows,
    PairStatus,
    Purpose,
)
from drsft.policy.hinted.protocol import PairCounts
from drsft.policy.vllm.sampler import PlainSampler, SampleRequest, stopped_completion
from drsft.records import Completion, FinishReason

__all__ = ["PairedRequest", "PairedSampler"]


@dataclass(frozen=True, slots=True, eq=False)
class PairedRequest:
    """A request for samples of one problem; `future` gets the completions when the last one ends."""

    request_id: str
    pairs: list[Pair]
    future: asyncio.Future[list[Completion]]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class _Row:
    """One of a pair's two requests in vLLM."""

    pair: Pair
    role: int
    internal_id: str  # the name that vLLM gave the request


class PairedSampler:
    """Steps one vLLM engine for PairedRequests and for the requests of a PlainSampler."""

    def __init__(
        self,
        plain: PlainSampler,
        paired_rows: PairedRows,
        stop_ids: frozenset[int],
        admission: Admission,
        counts: PairCounts,
    ) -> None:
        self.plain = plain
        self._engine, self._paired_rows, self._stop_ids = plain.engine, paired_rows, stop_ids
        self._admission, self._counts = admission, counts
        self._requests: dict[str, PairedRequest] = {}
        self._waiting: deque[SampleRequest | Pair] = (
            deque()
        )  # in order of arrival, from the first without room
        self._rows: dict[str, _Row] = {}  # by request id
        self._num_row_requests = 0
        self._num_ended = self._num_ended_tokens = 0

    @property
    def is_idle(self) -> bool:
        return self.plain.is_idle and not self._requests and not self._waiting

    def unfinished(self) -> Sequence[EngineRequest]:
        waiting = [one for one in list(self._waiting) if isinstance(one, SampleRequest)]
        return [*self.plain.unfinished(), *list(self._requests.values()), *waiting]

    def counts(self) -> EngineCounts:
        """Returns the counts of plain samples and pairs together; a pair counts as one sample, not two."""
        plain, requests = self.plain.counts(), list(self._requests.values())
        pairs = [pair for request in requests for pair in request.pairs]
        num_tokens = plain.num_tokens + self._num_ended_tokens + _num_tokens(pairs)
        num_open = sum(pair.continuation.finish_reason is None for pair in pairs)
        num_done = plain.num_done + self._num_ended + len(pairs) - num_open
        num_open += sum(isinstance(one, SampleRequest) for one in list(self._waiting))
        return EngineCounts(num_tokens, plain.num_in_flight + num_open, num_done)

    def add(self, request: PairedRequest | SampleRequest) -> None:
        match request:
            case PairedRequest():
                contexts = request.pairs[0].contexts
                for ids in (contexts.hinted_ids, contexts.plain_ids):
                    check_token_ids(ids, self.plain.num_embeddings)
                self._requests[request.request_id] = request
                self._waiting += request.pairs
                self._counts.num_pairs += len(request.pairs)
            case _ if self._waiting:
                self._waiting.append(request)
            case _:
                self.plain.add(request)

    def cancel(self, request_id: str) -> None:
        if request_id in self._requests:
            self._drop(self._requests[request_id])
            return
        for one in self._waiting:
            if isinstance(one, SampleRequest) and one.request_id == request_id:
                self._waiting.remove(one)
                settle([(one, stopped_completion())])
                return
        self.plain.cancel(request_id)

    def step(self) -> None:
        self._admit()
        self._deliver(self._engine.step())

    def close(self) -> None:
        del self._engine
        self.plain.close()

    def _admit(self) -> None:
        """Admits requests from the head of the queue while they fit.

        An error raised here fails that request only.
        """
        num_tokens = 0
        while self._waiting and self._has_room(self._waiting[0], num_tokens):
            one = self._waiting.popleft()
            request: PairedRequest | SampleRequest = one.owner if isinstance(one, Pair) else one
            try:
                if isinstance(one, Pair):
                    num_tokens += self._enter(one)
                else:
                    self.plain.add(one)
            except BaseException as error:  # as in EngineLoop: other requests must not fail with it
                if isinstance(request, PairedRequest):
                    self._drop(request)
                settle([(request, refusal(error))])

    def _has_room(self, one: SampleRequest | Pair, num_entered_tokens: int) -> bool:
        """Returns whether a request fits.

        Plain samples always fit, and so does any request if the engine is empty.
        """
        if not isinstance(one, Pair) or not (self._rows or self.plain.pending):
            return True
        reserved = sum(request.num_reserved_tokens for request in self.plain.pending.values())
        reserved += sum(pair.num_reserved_tokens for pair in self._paired_rows.pairs.values())
        return self._admission.admits(one, self._engine, reserved, num_entered_tokens)

    def _enter(self, pair: Pair) -> int:
        """Passes both rows to vLLM and returns the number of their prompt tokens."""
        if pair.status is not PairStatus.SEPARATE:
            is_separate = must_separate(pair, self._engine)
            pair.status = PairStatus.SEPARATE if is_separate else PairStatus.IN_STEP
            self._counts.num_apart += is_separate
        pair.num_given = pair.num_confirmed = len(pair.continuation.token_ids)
        pair.logits_V.clear()
        self._paired_rows.pairs[pair.number] = pair
        prompts = {role: pair.prompt(role) for role in (HINTED, PLAIN)}
        for role, prompt_ids in prompts.items():
            self._num_row_requests += 1
            request_id = f"row-{self._num_row_requests}"
            params = self._row_params(pair, role)
            internal_id = self._engine.add_request(request_id, {"prompt_token_ids": prompt_ids}, params)
            self._rows[request_id] = _Row(pair, role, internal_id)
        return sum(map(len, prompts.values()))

    def _row_params(self, pair: Pair, role: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        is_separate = pair.status is PairStatus.SEPARATE
        return SamplingParams(
            temperature=0.0,  # the logits processor leaves one token possible
            max_tokens=1 if is_separate else pair.continuation.max_tokens - pair.num_given,
            ignore_eos=True,
            stop_token_ids=[] if is_separate else sorted(self._stop_ids),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={ROW_KEY: (pair.number, role, Purpose.LOGITS if is_separate else Purpose.TOKENS)},
        )

    def _deliver(self, outputs: Sequence[Any]) -> None:
        finished: dict[Pair, list[list[int]]] = {}
        others = []
        for output in outputs:
            row = self._rows.get(output.request_id)
            if row is None:
                others.append(output)
            elif output.finished:
                del self._rows[output.request_id]
                finished.setdefault(row.pair, []).append(list(output.outputs[0].token_ids))
        self.plain.deliver(others)
        for pair, token_ids in finished.items():
            if pair.status is PairStatus.SEPARATE:
                self._draw_separately(pair)
            elif _agrees(pair, token_ids):
                self._end(pair)
            else:
                pair.status = PairStatus.OUT_OF_STEP
        for pair in list(self._paired_rows.pairs.values()):
            if pair.status is PairStatus.OUT_OF_STEP:
                self._redo(pair)
            elif pair.continuation.finish_reason is FinishReason.LOOP:
                self._end(pair)

    def _draw_separately(self, pair: Pair) -> None:
        """Appends a token once both contexts have returned their logits."""
        if any(row.pair is pair for row in self._rows.values()):
            return
        hinted_1V, plain_1V = pair.logits_V[HINTED][None], pair.logits_V[PLAIN][None]
        decode_step([pair.continuation], hinted_1V, plain_1V, vocab_size=self.plain.num_embeddings)
        self._leave(pair)
        if pair.continuation.finish_reason:
            self._settle_if_done(pair.owner)
        else:
            self._waiting.appendleft(pair)

    def _end(self, pair: Pair) -> None:
        self._leave(pair)
        self._settle_if_done(pair.owner)

    def _redo(self, pair: Pair) -> None:
        """Puts a pair that fell out of step back to the head of the queue, with its confirmed tokens."""
        self._leave(pair)
        self._counts.num_redone += 1
        pair.num_stalls = 0 if pair.num_confirmed > pair.num_given else pair.num_stalls + 1
        pair.continuation.truncate(pair.num_confirmed)
        pair.status = PairStatus.WAITING
        self._waiting.appendleft(pair)

    def _leave(self, pair: Pair) -> None:
        """Removes a pair's rows from the engine."""
        self._paired_rows.pairs.pop(pair.number, None)
        for request_id in [name for name, row in self._rows.items() if row.pair is pair]:
            self._engine.abort_request([self._rows.pop(request_id).internal_id], internal=True)

    def _drop(self, request: PairedRequest) -> None:
        """Removes a request with all its pairs, wherever they are."""
        self._requests.pop(request.request_id, None)
        self._num_ended += len(request.pairs)
        self._num_ended_tokens += _num_tokens(request.pairs)
        for pair in request.pairs:
            self._leave(pair)
        self._waiting = deque(
            one for one in self._waiting if not (isinstance(one, Pair) and one.owner is request)
        )

    def _settle_if_done(self, request: PairedRequest) -> None:
        is_done = all(pair.continuation.finish_reason for pair in request.pairs)
        if is_done and self._requests.pop(request.request_id, None) is not None:
            self._num_ended += len(request.pairs)
            self._num_ended_tokens += _num_tokens(request.pairs)
            settle([(request, [pair.continuation.completion() for pair in request.pairs])])


def _num_tokens(pairs: Sequence[Pair]) -> int:
    return sum(len(pair.continuation.token_ids) for pair in pairs)


def _agrees(pair: Pair, token_ids: Sequence[list[int]]) -> bool:
    """Returns whether both rows ended in the same step with the tokens that were drawn for them."""
    expected = pair.continuation.token_ids[pair.num_given :]
    is_in_step = pair.status is PairStatus.IN_STEP
    return is_in_step and len(token_ids) == 2 and all(ids == expected for ids in token_ids)
