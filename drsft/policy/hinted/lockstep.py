"""Both contexts of a problem as requests of one vLLM engine, kept in step by a batch logits processor.

Written against the interface of vLLM 0.32's V1 model runner: `update_state` says which request has which
row of the batch, `apply` sees the logits of all rows of a step. For a pair in step it draws the token
itself, once, and leaves only that token possible in both rows; the requests are greedy, so the engine can
but take it. No generator of the engine's is used.

A pair is in step when both rows are there and have the same number of output tokens. A row cannot be made
to wait, so when preemption, chunked prefill or a full batch keeps one of them back, the pair has fallen: it
is marked here and goes on from its last confirmed token elsewhere (vllm_engine.py). A token is confirmed
when both rows come back with it, which also covers rows whose prompt is only partly read: their draws are
thrown away by the engine, and here when the next step shows the old length again.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drsft.errors import SetupError
from drsft.policy.hinted.continuation import Continuation
from drsft.policy.hinted.extend import extend
from drsft.policy.hinted.protocol import Contexts

__all__ = ["HINTED", "PLAIN", "PROBE", "ROW_KEY", "Lockstep", "Pair", "check_interface"]

HINTED, PLAIN = 0, 1
ROW_KEY = "drsft_row"  # in SamplingParams.extra_args: (pair number, HINTED or PLAIN, purpose)
PROBE = "probe"  # a request whose logits are wanted, not its token
VLLM_VERSION = "0.32."
RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"  # 1 is the default on a GPU


@dataclass(slots=True, eq=False, kw_only=True)
class Pair:
    """A problem's continuation on its way through the engine."""

    number: int
    contexts: Contexts
    continuation: Continuation
    owner: Any  # the request that waits for it
    base: int = 0  # tokens of the continuation that the engine was given with the prompts
    num_confirmed: int = 0
    has_fallen: bool = False
    num_stalls: int = 0  # falls in a row without a token gained
    is_apart: bool = False  # decoded by probes, one context after the other
    probed: dict[int, Tensor] = field(default_factory=dict)  # HINTED, PLAIN -> logits [V]

    def prompt(self, role: int) -> list[int]:
        ids = self.contexts.hinted_ids if role == HINTED else self.contexts.plain_ids
        return [*ids, *self.continuation.token_ids]


@dataclass(frozen=True, slots=True)
class _Row:
    pair: Pair
    role: int
    is_probe: bool
    output_ids: Sequence[int]  # the engine's own list: it grows


class Lockstep:
    """The pairs that are in the engine, and the rows that they have in its batch."""

    def __init__(self) -> None:
        self.pairs: dict[int, Pair] = {}
        self._rows: dict[int, _Row] = {}
        self._seats: list[tuple[int, int, _Row, _Row]] | None = None

    def processor(self) -> type:
        """The class that vLLM is to make an instance of; it ends in this object."""
        from vllm.v1.sample.logits_processor import LogitsProcessor

        lockstep = self

        class PairMixer(LogitsProcessor):  # type: ignore[misc]
            def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
                self.vocab_size = int(vllm_config.model_config.get_vocab_size())

            def is_argmax_invariant(self) -> bool:
                return False

            def update_state(self, batch_update: Any) -> None:
                if batch_update is not None:
                    lockstep.follow(batch_update)

            def apply(self, logits: Tensor) -> Tensor:
                return lockstep.mix_rows(logits, self.vocab_size)

        return PairMixer

    def follow(self, update: Any) -> None:
        """Removed, added, moved: in vLLM's order."""
        for index in update.removed:
            self._rows.pop(index, None)
        for index, params, _, output_ids in update.added:
            self._rows.pop(index, None)
            number, role, purpose = (params.extra_args or {}).get(ROW_KEY, (None, HINTED, ""))
            if (pair := self.pairs.get(number)) is not None:
                self._rows[index] = _Row(pair, role, purpose == PROBE, output_ids)
        for source, target, direction in update.moved:
            moving, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if moving is not None:
                self._rows[target] = moving
            if direction.name == "SWAP" and other is not None:
                self._rows[source] = other
        self._seats = None

    def mix_rows(self, logits_BV: Tensor, vocab_size: int) -> Tensor:
        if not self._rows:
            return logits_BV
        if self._seats is None:
            self._seats = self._find_seats()
        for index, row in self._rows.items():
            if row.is_probe:  # the last time it is seen is with its whole prompt read
                row.pair.probed[row.role] = logits_BV[index].clone()
        hinted, plain, pairs = self._in_step()
        if pairs:
            drawn = extend(
                [pair.continuation for pair in pairs],
                logits_BV[hinted],
                logits_BV[plain],
                vocab_size=vocab_size,
            )
            rows = torch.tensor(hinted + plain, device=logits_BV.device)
            logits_BV[rows] = -torch.inf
            logits_BV[rows, torch.tensor(drawn + drawn, device=logits_BV.device)] = 0.0
        return logits_BV

    def _find_seats(self) -> list[tuple[int, int, _Row, _Row]]:
        """Pairs with both rows in the batch; one that lacks its partner has fallen."""
        partners: dict[Pair, dict[int, int]] = {}
        for index, row in self._rows.items():
            if not row.is_probe:
                partners.setdefault(row.pair, {})[row.role] = index
        seats = []
        for pair, index_of in partners.items():
            if len(index_of) == 2:
                hinted, plain = index_of[HINTED], index_of[PLAIN]
                seats.append((hinted, plain, self._rows[hinted], self._rows[plain]))
            else:
                pair.has_fallen = True
        return seats

    def _in_step(self) -> tuple[list[int], list[int], list[Pair]]:
        """Rows and pairs that draw now; their unconfirmed tokens are dropped."""
        hinted, plain, pairs = [], [], []
        for hinted_index, plain_index, hinted_row, plain_row in self._seats or ():
            pair = hinted_row.pair
            num_tokens = len(hinted_row.output_ids)
            if num_tokens != len(plain_row.output_ids):
                pair.has_fallen = True
            if pair.has_fallen:
                continue
            pair.num_confirmed = pair.base + num_tokens
            if pair.num_confirmed < len(pair.continuation.token_ids):
                pair.continuation.truncate(pair.num_confirmed)
            hinted.append(hinted_index)
            plain.append(plain_index)
            pairs.append(pair)
        return hinted, plain, pairs


def check_interface() -> None:
    """Chooses the V1 model runner. Raises SetupError on a vLLM that this file was not written for."""
    import vllm

    if os.environ.setdefault(RUNNER_VARIABLE, "0").lower() not in ("0", "false"):
        raise SetupError(
            f"{RUNNER_VARIABLE} asks for vLLM's newer model runner, whose logits processors Hinted Decoding "
            "does not know; unset it, or set rewrite.hinted.engine: torch"
        )

    if not str(vllm.__version__).startswith(VLLM_VERSION):
        raise SetupError(
            f"Hinted Decoding in vLLM is written for vLLM {VLLM_VERSION}x and found {vllm.__version__}: its "
            "logits processors differ; install that version, or set rewrite.hinted.engine: torch"
        )
