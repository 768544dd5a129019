"""Hinted Decoding in the engine that also samples everything else: one engine, one batch.

A pair of requests enters only when both find room in the same step: sequences, tokens of the step, and
cache for their longest continuation. A pair that falls out of step all the same (lockstep.py) goes on from
its last confirmed token; one that falls twice without having gained a token is decoded apart: for each
token both contexts are asked for their logits, one request each, and the draw is made here. Slow, and
always right.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from drsft.config import Mixing, Target
from drsft.errors import ConfigError, InputError
from drsft.policy.hinted.continuation import Continuation
from drsft.policy.hinted.extend import extend
from drsft.policy.hinted.lockstep import HINTED, PLAIN, PROBE, ROW_KEY, Lockstep, Pair, check_interface
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.hinted.stop_tokens import stop_ids
from drsft.policy.prompts import Prompter
from drsft.policy.vllm.policy import VLLMPolicy, _Request, _stopped, _Waiter
from drsft.records import Completion, FinishReason, Sampling

__all__ = ["VLLMHintedPolicy"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A problem's samples: settled when the last of them ends."""

    request_id: str
    pairs: list[Pair]
    future: asyncio.Future[list[Completion]]
    loop: asyncio.AbstractEventLoop


class VLLMHintedPolicy(VLLMPolicy):
    """A Policy and a HintedDecoder at once.

    Raises SetupError on another vLLM than the one this is written for.
    """

    def __init__(
        self, target: Target, prompter: Prompter, *, engine_options: Mapping[str, Any] | None = None
    ) -> None:
        if target.engine.tensor_parallel_size > 1:
            raise ConfigError(
                "target.engine.tensor_parallel_size: Hinted Decoding in vLLM needs 1 (it mixes logits in its "
                "own process); set it, or rewrite.hinted.engine: torch"
            )
        check_interface()
        self._lockstep = Lockstep()
        self._stop_ids = stop_ids(target, prompter)
        self._asked: dict[str, _Asked] = {}
        self._held: deque[_Request | Pair] = deque()  # in order of arrival, from the first pair without room
        self._live: dict[str, tuple[Pair, int, str]] = {}  # request id -> pair, role, the engine's own id
        self._entered_tokens = 0  # since the last step
        self.counts = PairCounts()
        options = {
            "logits_processors": [self._lockstep.processor()],
            "async_scheduling": False,  # a token must be known before the next is drawn
            **(engine_options or {}),
        }
        super().__init__(target, prompter, engine_options=options)

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        room = self._max_model_len - contexts.longest
        if room <= 0:
            raise InputError(f"prompt of {contexts.longest} tokens leaves no room in {self._max_model_len}")
        loop = asyncio.get_running_loop()
        asked = _Asked(str(next(self._ids)), [], loop.create_future(), loop)
        for index in range(sampling.num_samples):
            continuation = Continuation(
                mixing,
                sampling,
                sample_index=index,
                max_tokens=min(sampling.max_tokens, room),
                stop_ids=self._stop_ids,
                decode=self._prompter.decode,
            )
            pair = Pair(number=next(self._ids), contexts=contexts, continuation=continuation, owner=asked)
            asked.pairs.append(pair)
        self._inbox.put(asked)
        try:
            return await asked.future
        except asyncio.CancelledError:
            self._inbox.put(asked.request_id)
            raise

    def _is_idle(self) -> bool:
        return not (self._pending or self._asked)

    def _unfinished(self) -> Iterable[_Waiter]:
        held = (one for one in self._held if isinstance(one, _Request))
        return chain(super()._unfinished(), self._asked.values(), held)

    def _take_requests(self) -> bool:
        is_open = super()._take_requests()
        self._entered_tokens = 0
        while self._held and self._has_room(self._held[0]):
            match self._held.popleft():
                case Pair() as pair:
                    self._enter(pair)
                case request:
                    super()._add(request)
        return is_open

    def _add(self, message: Any) -> None:
        match message:
            case _Asked():
                self._asked[message.request_id] = message
                self._held += message.pairs
                self.counts.num_pairs += len(message.pairs)
            case request if self._held:
                self._held.append(request)
            case request:
                super()._add(request)

    def _cancel(self, request_id: str) -> None:
        if asked := self._asked.pop(request_id, None):
            for pair in asked.pairs:
                self._leave(pair)
        for one in self._held:
            if isinstance(one, _Request) and one.request_id == request_id:
                self._resolve(one, _stopped())
        self._held = deque(
            one
            for one in self._held
            if (one.owner.request_id if isinstance(one, Pair) else one.request_id) != request_id
        )
        super()._cancel(request_id)

    def _has_room(self, one: "_Request | Pair") -> bool:
        """Whether all of a pair finds room in the next step; alone in the engine it always enters."""
        if not isinstance(one, Pair) or not (self._live or self._pending):
            return True
        has_cache = self._reserved() + _reserve(one) <= self._cache_tokens()
        if self._must_part(one):
            return has_cache
        num_sequences = self._engine.get_num_unfinished_requests()
        config = self._engine.vllm_config
        scheduler = config.scheduler_config
        prompts = len(one.prompt(HINTED)) + len(one.prompt(PLAIN))
        has_sequences = num_sequences + 2 <= scheduler.max_num_seqs
        has_tokens = num_sequences + self._entered_tokens + prompts <= scheduler.max_num_batched_tokens
        return has_sequences and has_tokens and has_cache

    def _must_part(self, pair: Pair) -> bool:
        """Whether it cannot be in step: its prompts never fit into one step, or it fell twice for nothing."""
        scheduler = self._engine.vllm_config.scheduler_config
        num_tokens = len(pair.prompt(HINTED)) + len(pair.prompt(PLAIN))
        is_too_long = scheduler.max_num_seqs < 2 or num_tokens > scheduler.max_num_batched_tokens
        return bool(pair.is_apart or pair.num_stalls > 1 or is_too_long)

    def _cache_tokens(self) -> int:
        cache = self._engine.vllm_config.cache_config
        return int(cache.kv_cache_size_tokens or cache.num_gpu_blocks * cache.block_size)

    def _reserved(self) -> int:
        """Tokens of cache that everything in the engine may come to need."""
        plain = sum(one.num_reserved_tokens for one in self._pending.values())
        return plain + sum(_reserve(pair) for pair in self._lockstep.pairs.values())

    def _enter(self, pair: Pair) -> None:
        continuation = pair.continuation
        prompts = {role: pair.prompt(role) for role in (HINTED, PLAIN)}
        num_tokens = sum(map(len, prompts.values()))
        if not pair.is_apart and self._must_part(pair):
            pair.is_apart = True
            self.counts.num_apart += 1
        pair.base = pair.num_confirmed = len(continuation.token_ids)
        pair.has_fallen = False
        pair.probed.clear()
        self._lockstep.pairs[pair.number] = pair
        self._entered_tokens += num_tokens
        for role, prompt_ids in prompts.items():
            request_id = str(next(self._ids))
            max_tokens = 1 if pair.is_apart else continuation.max_tokens - pair.base
            params = self._row_params(pair, role, max_tokens)
            internal_id = self._engine.add_request(request_id, {"prompt_token_ids": prompt_ids}, params)
            self._live[request_id] = (pair, role, internal_id)

    def _row_params(self, pair: Pair, role: int, max_tokens: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=0.0,  # the lockstep leaves one token possible
            max_tokens=max_tokens,
            ignore_eos=True,
            stop_token_ids=sorted(self._stop_ids) if not pair.is_apart else [],
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={ROW_KEY: (pair.number, role, PROBE if pair.is_apart else "")},
        )

    def _deliver(self, outputs: Sequence[Any]) -> None:
        finished: dict[Pair, list[list[int]]] = {}
        others = []
        for output in outputs:
            live = self._live.get(output.request_id)
            if live is None:
                others.append(output)
            elif output.finished:
                del self._live[output.request_id]
                finished.setdefault(live[0], []).append(list(output.outputs[0].token_ids))
        super()._deliver(others)
        for pair, token_ids in finished.items():
            if pair.is_apart:
                self._probed(pair)
            elif _agrees(pair, token_ids):
                self._end(pair)
            else:
                pair.has_fallen = True
        for pair in list(self._lockstep.pairs.values()):
            if pair.has_fallen:
                self._redo(pair)
            elif pair.continuation.finish_reason is FinishReason.LOOP:
                self._end(pair)

    def _probed(self, pair: Pair) -> None:
        """Both contexts of a pair apart have said what they think of the next token."""
        if any(one is pair for one, _, _ in self._live.values()):
            return
        vocab_size = int(self._engine.vllm_config.model_config.get_vocab_size())
        extend(
            [pair.continuation], pair.probed[HINTED][None], pair.probed[PLAIN][None], vocab_size=vocab_size
        )
        self._leave(pair)
        if pair.continuation.finish_reason:
            self._settle_owner(pair)
        else:
            self._held.appendleft(pair)

    def _end(self, pair: Pair) -> None:
        self._leave(pair)
        self._settle_owner(pair)

    def _redo(self, pair: Pair) -> None:
        self._leave(pair)
        self.counts.num_redone += 1
        pair.num_stalls = 0 if pair.num_confirmed > pair.base else pair.num_stalls + 1
        pair.continuation.truncate(pair.num_confirmed)
        self._held.appendleft(pair)

    def _leave(self, pair: Pair) -> None:
        self._lockstep.pairs.pop(pair.number, None)
        for request_id in [name for name, live in self._live.items() if live[0] is pair]:
            self._engine.abort_request([self._live.pop(request_id)[2]], internal=True)

    def _settle_owner(self, pair: Pair) -> None:
        asked: _Asked = pair.owner
        is_done = all(one.continuation.finish_reason for one in asked.pairs)
        if is_done and asked.request_id in self._asked:
            del self._asked[asked.request_id]
            self._resolve(asked, [one.continuation.completion() for one in asked.pairs])


def _agrees(pair: Pair, token_ids: Sequence[list[int]]) -> bool:
    """Both rows ended in the same step with the tokens that were drawn for them."""
    expected = pair.continuation.token_ids[pair.base :]
    return not pair.has_fallen and len(token_ids) == 2 and all(ids == expected for ids in token_ids)


def _reserve(pair: Pair) -> int:
    contexts = pair.contexts
    return len(contexts.hinted_ids) + len(contexts.plain_ids) + 2 * pair.continuation.max_tokens
