"""A batch whose rows enter and leave while it decodes, for any causal language model of transformers.

Axes: B rows, G heads of keys and values, L columns of the cache, E size of a head, V vocabulary.

All rows end at the same column, so a step writes one column for all of them; an entering row is placed so
that it ends there too. This is the layout of a left-padded batch, which every model of transformers reads. A
model that keeps other state, such as a state-space model, runs without a cache, which is slower but correct.
A trial run decides between the two.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

__all__ = ["CachedRows", "RecomputedRows", "Rows", "compaction", "rows_for"]

SLACK_TOKENS = 128  # columns that are laid out ahead
PREFILL_TOKENS = {"cpu": 2048, "cuda": 16384}  # of one forward, padding counted; a CPU's caches are small
AGREEMENT_NATS = 0.05  # between log-probs with and without a cache; bfloat16 rounds that much


class Rows(Protocol):
    def enter(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Adds a row for each prompt, after the present rows; returns the logits after each prompt, one row
        (V) each.
        """
        ...

    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Appends a token to every row; returns the logits (B, V) after it."""
        ...

    def leave(self, rows: Sequence[int]) -> None:
        """Removes the rows with these indices; the last rows move into their places, as `compaction`
        computes.
        """
        ...


def compaction(num_rows: int, leaving: Sequence[int]) -> list[tuple[int, int]]:
    """Returns which rows move when the rows `leaving` are removed: pairs (free index, row that moves there).

    After these moves the remaining rows have the first indices.
    """
    gone = set(leaving)
    num_left = num_rows - len(gone)
    movers = (row for row in range(num_left, num_rows) if row not in gone)
    return list(zip(sorted(place for place in gone if place < num_left), movers, strict=True))


def rows_for(model: Any) -> Rows:
    """Returns a batch that decodes with a KV cache, or one without if the model fails with a cache or gives
    other log-probs.

    A trial with a few tokens decides; differences below AGREEMENT_NATS count as rounding.
    """
    return CachedRows(model) if _caches_well(model) else RecomputedRows(model)


@torch.inference_mode()
def _caches_well(model: Any) -> bool:
    last = int(model.config.get_text_config(decoder=True).vocab_size) - 1
    prompts = [[min(token, last) for token in prompt] for prompt in ([3, 4, 5, 6, 7], [5, 3])]
    found = []
    for rows in (CachedRows(model), RecomputedRows(model)):
        try:
            rows.enter(prompts[:1])
            rows.step([min(8, last)])
            rows.enter(prompts[1:])
            found.append(rows.step([min(9, last), min(4, last)]).float().log_softmax(-1))
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            if isinstance(rows, RecomputedRows):
                raise
            return False
    return bool((found[0] - found[1]).abs().max() < AGREEMENT_NATS)


class _Window:
    """The used columns, [start, end), and the number of rows; shared by all layers."""

    start = end = num_rows = 0


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (B, G, L, E) in a fixed buffer; `update` returns views of the used columns."""

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self.window = window

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        window = self.window
        columns = slice(window.start, window.end + 1)
        views = []
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            store[: window.num_rows, :, window.end : window.end + 1] = new
            views.append(store[: window.num_rows, :, columns])
        return views[0], views[1]

    def get_seq_length(self) -> int:
        return self.window.end - self.window.start


class CachedRows:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._window = _Window()
        self._cache = Cache(layer_class_to_replicate=partial(_Layer, self._window))
        self._mask_BL = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        self._lengths: list[int] = []
        self._starts: list[int] = []

    @torch.inference_mode()
    def enter(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Adds rows, in forward passes over prompts of similar length; returns the logits after each prompt,
        in the order of `prompts`.
        """
        window, first = self._window, len(self._lengths)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        longest = len(prompts[order[-1]])
        self._make_room(first + len(prompts), longest)
        self._lengths += [len(prompt) for prompt in prompts]
        self._starts += [window.end - len(prompt) for prompt in prompts]
        window.num_rows, window.start = len(self._lengths), min(self._starts)
        logits: list[tuple[int, Tensor]] = []
        while order:
            width = len(prompts[order[-1]])
            chunk = [
                order.pop()
                for _ in range(min(len(order), max(1, PREFILL_TOKENS[self._model.device.type] // width)))
            ]
            found = self._prefill([prompts[index] for index in chunk], [first + index for index in chunk])
            logits += zip(chunk, found, strict=True)
        return torch.stack([row for _, row in sorted(logits, key=lambda one: one[0])])

    def _prefill(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """Runs left-padded prompts with a cache of their own, copies it into the shared one and returns the
        last logits.
        """
        device, width = self._model.device, max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=device)
        cache = DynamicCache()
        logits = _forward(self._model, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        columns, places = slice(self._window.end - width, self._window.end), torch.tensor(rows, device=device)
        self._mask_BL[places] = 0
        self._mask_BL[places, columns] = mask
        for index, layer in enumerate(cache.layers):
            ours = self._layer(index, layer)
            ours.keys[places, :, columns], ours.values[places, :, columns] = layer.keys, layer.values
        return logits

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> Tensor:
        window, device = self._window, self._model.device
        self._make_room(window.num_rows, 0)
        self._mask_BL[: window.num_rows, window.end] = 1
        logits = _forward(
            self._model,
            torch.tensor(token_ids, device=device)[:, None],
            self._mask_BL[: window.num_rows, window.start : window.end + 1],
            torch.tensor(self._lengths, device=device)[:, None],
            self._cache,
        )
        window.end += 1
        self._lengths = [length + 1 for length in self._lengths]
        return logits

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> None:
        moves = compaction(len(self._lengths), rows)
        if moves:
            places, movers = (
                torch.tensor(side, device=self._model.device) for side in zip(*moves, strict=True)
            )
            self._mask_BL[places] = self._mask_BL[movers]
            columns = slice(self._window.start, self._window.end)
            for layer in self._cache.layers:
                for store in (layer.keys, layer.values):
                    store[places, :, columns] = store[movers, :, columns]
        for kept in (self._lengths, self._starts):
            for place, mover in moves:
                kept[place] = kept[mover]
            del kept[len(kept) - len(rows) :]
        self._window.num_rows = len(self._lengths)
        self._window.start = min(self._starts, default=self._window.end)

    def _layer(self, index: int, like: Any) -> Any:
        """Returns the cache of a layer, which gets its shapes from the first keys that the model produces."""
        while len(self._cache.layers) <= index:
            self._cache.layers.append(_Layer(self._window))
        layer = self._cache.layers[index]
        if not layer.is_initialized:
            num_rows, capacity = self._mask_BL.shape
            layer.keys, layer.values = (
                states.new_zeros(num_rows, states.shape[1], capacity, states.shape[3])
                for states in (like.keys, like.values)
            )
            layer.is_initialized = True
        return layer

    def _make_room(self, num_rows: int, prompt_tokens: int) -> None:
        """Ensures space for `num_rows` rows, a free column, and `prompt_tokens` columns before it."""
        window = self._window
        old_rows, capacity = self._mask_BL.shape
        if num_rows <= old_rows and prompt_tokens <= window.end < capacity:
            return
        used = window.end - window.start
        new_end = max(used, prompt_tokens)
        shape = (max(num_rows, old_rows), new_end + SLACK_TOKENS)
        self._mask_BL = self._moved(self._mask_BL[:, None, :, None], shape, new_end)[:, 0, :, 0]
        for layer in self._cache.layers:
            layer.keys, layer.values = (
                self._moved(store, shape, new_end) for store in (layer.keys, layer.values)
            )
        self._starts = [start + new_end - window.end for start in self._starts]
        window.start, window.end = new_end - used, new_end

    def _moved(self, store_BGLE: Tensor, shape: tuple[int, int], new_end: int) -> Tensor:
        """Returns a new store with the used columns copied to end at `new_end`, and zeros elsewhere."""
        window, (num_rows, capacity) = self._window, shape
        moved = store_BGLE.new_zeros(num_rows, store_BGLE.shape[1], capacity, store_BGLE.shape[3])
        used = store_BGLE[: window.num_rows, :, window.start : window.end]
        moved[: window.num_rows, :, new_end - used.shape[2] : new_end] = used
        return moved


class RecomputedRows:
    """A batch without a cache: it reads every row again at every step, which is correct for any
    causal model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._rows: list[list[int]] = []

    def enter(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        self._rows += [list(prompt) for prompt in prompts]
        return self._last_logits(self._rows[len(self._rows) - len(prompts) :])

    def step(self, token_ids: Sequence[int]) -> Tensor:
        for row, token_id in zip(self._rows, token_ids, strict=True):
            row.append(token_id)
        return self._last_logits(self._rows)

    def leave(self, rows: Sequence[int]) -> None:
        for place, mover in compaction(len(self._rows), rows):
            self._rows[place] = self._rows[mover]
        del self._rows[len(self._rows) - len(rows) :]

    @torch.inference_mode()
    def _last_logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Returns the logits after each row.

        Rows of equal length share a forward, since padding would disturb a state.
        """
        by_length: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(index)
        logits: list[Tensor | None] = [None] * len(rows)
        for indices in by_length.values():
            ids = torch.tensor([rows[index] for index in indices], device=self._model.device)
            found = self._model(ids, use_cache=False).logits[:, -1]
            for index, row_logits in zip(indices, found, strict=True):
                logits[index] = row_logits
        return torch.stack([row for row in logits if row is not None])


def _forward(model: Any, ids: Tensor, mask: Tensor, position_ids: Tensor, cache: Any) -> Tensor:
    """Returns the logits (B, V) after the last token."""
    taken = inspect.signature(model.forward).parameters
    options = {"position_ids": position_ids, "logits_to_keep": 1}
    given = {name: value for name, value in options.items() if name in taken}
    output = model(ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
    logits: Tensor = output.logits[:, -1]
    return logits
