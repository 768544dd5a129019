"""Decodes both contexts of a problem as two rows of one vLLM engine; a logits processor mixes them.

It is written against the interface of vLLM 0.32's V1 model runner: `update_state` reports which request has
which row of the batch, `apply` gets the logits of all rows of a step. For a pair in step it draws the token
itself, once, and leaves only that token possible in both rows. The requests are greedy, so the engine chooses
that token and never uses its own random generators.

A pair is in step when both rows are in the batch and have the same number of output tokens. A row cannot be
made to wait, so when preemption, chunked prefill or a full batch delays one of them, the pair is out of step:
it is marked here, and the sampler (paired_sampler.py) decodes it again from its last confirmed token. A token
is confirmed when both rows report it in a later step. This also covers rows whose prompt is only partly read:
the engine discards their draws, and so does this file when the next step shows the old length again.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

import torch
from torch import Tensor

from drsft.errors import SetupError
from drsft.policy.hinted.continuation import Continuation
from drsft.policy.hinted.decode_step import decode_step
from drsft.policy.hinted.protocol import Contexts

__all__ = [
    "HINTED",
    "PLAIN",
    "ROW_KEY",
    "Pair",
    "PairStatus",
    "PairedRows",
    "Purpose",
    "check_interface",
]

HINTED, PLAIN = 0, 1
ROW_KEY = "drsft_row"  # in SamplingParams.extra_args: (pair number, HINTED or PLAIN, a Purpose)
VLLM_VERSION = "0.32."
RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"  # 1 is the default on a GPU


class PairStatus(Enum):
    WAITING = "waiting"  # for room in the engine
    IN_STEP = "in step"  # both rows decode; each step draws one token for both
    OUT_OF_STEP = "out of step"  # one row is ahead of the other: decode again from the last confirmed token
    SEPARATE = "separate"  # until its end: for each token, each context is asked for its logits alone


class Purpose(StrEnum):
    """Whether a request for one sequence of a pair is to draw tokens or only to compute logits."""

    TOKENS = "tokens"
    LOGITS = "logits"  # only the logits after the prompt are used; the engine's token is discarded


@dataclass(slots=True, eq=False, kw_only=True)
class Pair:
    """One sample of a problem: its continuation, and the two contexts (hinted and plain prompt) that decode
    it.
    """

    number: int
    contexts: Contexts
    continuation: Continuation
    owner: Any  # the request that waits for it
    status: PairStatus = PairStatus.WAITING
    num_given: int = 0  # tokens of the continuation that the engine was given with the prompts
    num_confirmed: int = 0
    num_stalls: int = 0  # times in a row that it fell out of step without having gained a token
    logits_V: dict[int, Tensor] = field(default_factory=dict)  # of a separate pair: HINTED, PLAIN -> logits

    def prompt(self, role: int) -> list[int]:
        ids = self.contexts.hinted_ids if role == HINTED else self.contexts.plain_ids
        return [*ids, *self.continuation.token_ids]

    @property
    def num_reserved_tokens(self) -> int:
        """The most tokens of KV cache that the hinted and the plain sequence can need together."""
        contexts = self.contexts
        return len(contexts.hinted_ids) + len(contexts.plain_ids) + 2 * self.continuation.max_tokens


@dataclass(frozen=True, slots=True)
class _Row:
    pair: Pair
    role: int
    purpose: Purpose
    output_ids: Sequence[int]  # the engine's own list, which grows


class PairedRows:
    """The pairs in a vLLM engine, and which rows of the engine's batch are theirs."""

    def __init__(self) -> None:
        self.pairs: dict[int, Pair] = {}
        self._rows: dict[int, _Row] = {}
        self._complete: list[tuple[int, int, _Row, _Row]] | None = None  # pairs that have both rows

    def processor(self) -> type:
        """Returns a logits processor class for vLLM whose instances pass all calls to this object."""
        from vllm.v1.sample.logits_processor import LogitsProcessor

        paired_rows = self

        class PairMixer(LogitsProcessor):  # type: ignore[misc]
            def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
                self.vocab_size = int(vllm_config.model_config.get_vocab_size())

            def is_argmax_invariant(self) -> bool:
                return False

            def update_state(self, batch_update: Any) -> None:
                if batch_update is not None:
                    paired_rows.update_rows(batch_update)

            def apply(self, logits: Tensor) -> Tensor:
                return paired_rows.mix_logits(logits, self.vocab_size)

        return PairMixer

    def update_rows(self, update: Any) -> None:
        """Applies vLLM's changes of the batch in vLLM's order: rows removed, added, moved."""
        for index in update.removed:
            self._rows.pop(index, None)
        for index, params, _, output_ids in update.added:
            self._rows.pop(index, None)
            number, role, purpose = (params.extra_args or {}).get(ROW_KEY, (None, HINTED, Purpose.TOKENS))
            if (pair := self.pairs.get(number)) is not None:
                self._rows[index] = _Row(pair, role, purpose, output_ids)
        for source, target, direction in update.moved:
            moving, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if moving is not None:
                self._rows[target] = moving
            if direction.name == "SWAP" and other is not None:
                self._rows[source] = other
        self._complete = None

    def mix_logits(self, logits_BV: Tensor, vocab_size: int) -> Tensor:
        """Draws a token for each pair in step, and leaves only that token possible in the pair's rows.

        Returns `logits_BV`, which it changes in place.
        """
        if not self._rows:
            return logits_BV
        if self._complete is None:
            self._complete = self._find_complete()
        for index, row in self._rows.items():
            if row.purpose is Purpose.LOGITS:  # the last call for a row comes with its whole prompt read
                row.pair.logits_V[row.role] = logits_BV[index].clone()
        hinted, plain, pairs = self._in_step()
        if pairs:
            drawn = decode_step(
                [pair.continuation for pair in pairs],
                logits_BV[hinted],
                logits_BV[plain],
                vocab_size=vocab_size,
            )
            rows = torch.tensor(hinted + plain, device=logits_BV.device)
            logits_BV[rows] = -torch.inf
            logits_BV[rows, torch.tensor(drawn + drawn, device=logits_BV.device)] = 0.0
        return logits_BV

    def _find_complete(self) -> list[tuple[int, int, _Row, _Row]]:
        """Returns the pairs with both rows in the batch; one that lacks a row is marked as out of step."""
        index_of: dict[Pair, dict[int, int]] = {}
        for index, row in self._rows.items():
            if row.purpose is Purpose.TOKENS:
                index_of.setdefault(row.pair, {})[row.role] = index
        complete = []
        for pair, indices in index_of.items():
            if len(indices) == 2:
                hinted, plain = indices[HINTED], indices[PLAIN]
                complete.append((hinted, plain, self._rows[hinted], self._rows[plain]))
            else:
                pair.status = PairStatus.OUT_OF_STEP
        return complete

    def _in_step(self) -> tuple[list[int], list[int], list[Pair]]:
        """Returns the pairs that draw a token in this step, with their rows; drops unconfirmed tokens."""
        hinted, plain, pairs = [], [], []
        for hinted_index, plain_index, hinted_row, plain_row in self._complete or ():
            pair = hinted_row.pair
            num_tokens = len(hinted_row.output_ids)
            if num_tokens != len(plain_row.output_ids):
                pair.status = PairStatus.OUT_OF_STEP
            if pair.status is PairStatus.OUT_OF_STEP:
                continue
            pair.num_confirmed = pair.num_given + num_tokens
            if pair.num_confirmed < len(pair.continuation.token_ids):
                pair.continuation.truncate(pair.num_confirmed)
            hinted.append(hinted_index)
            plain.append(plain_index)
            pairs.append(pair)
        return hinted, plain, pairs


def check_interface() -> None:
    """Makes vLLM use its V1 model runner, by an environment variable.

    Raises SetupError if the variable asks for the newer runner, or on another vLLM than 0.32.
    """
    import vllm

    if os.environ.setdefault(RUNNER_VARIABLE, "0").lower() not in ("0", "false"):
        raise SetupError(
            f"{RUNNER_VARIABLE} asks for vLLM's newer model runner, whose logits processors Hinted Decoding "
            "does not support; unset it, or set rewrite.hinted.engine: torch"
        )

    if not str(vllm.__version__).startswith(VLLM_VERSION):
        raise SetupError(
            f"Hinted Decoding in vLLM needs vLLM {VLLM_VERSION}x and found {vllm.__version__}, whose logits "
            f"processors may differ; install {VLLM_VERSION}x, or set rewrite.hinted.engine: torch"
        )
