"""Computes attention over concatenated documents: each attends only to its own tokens, and nothing is padded.

Axes: T tokens of all documents, H heads of the queries, G heads of keys and values, E size of a head.

A dense mask of T × T would do the work of T² for Σ length²; here each document is a causal attention of its
own. On CUDA in half precision one variable-length flash kernel computes them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from drsft.objectives.head import body_of
from drsft.train.world import copy_to

__all__ = [
    "AttentionShape",
    "DocumentSpans",
    "attend_by_document",
    "document_attention",
    "flash_takes",
    "limits_are_known",
    "use_document_attention",
]

NAME, PROBE = "drsft_documents", "drsft_documents_probe"
PROBE_LENGTHS = (3, 5, 4)
LARGEST_HEAD = 256  # of the flash kernel, which also wants a multiple of 8


@dataclass(frozen=True, slots=True, eq=False)
class DocumentSpans:
    """Where the documents of one forward begin and end.

    They are made once for all layers: a copy to the GPU in each layer would wait for the previous one.
    """

    lengths: tuple[int, ...]
    edges: Tensor  # int32, one more than documents: 0 and their ends, on the model's device

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "DocumentSpans":
        edges = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(tuple(lengths), copy_to(device, edges))

    @property
    def bounds(self) -> list[tuple[int, int]]:
        return list(pairwise(accumulate(self.lengths, initial=0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """The heads, sizes and limits with which a layer calls the attention, apart from the number of tokens."""

    num_heads: int
    num_groups: int  # heads of keys and values
    key_size: int
    value_size: int
    window: int | None
    scaling: float | None


@torch.no_grad()
def attend_by_document(causal_lm: Any) -> frozenset[AttentionShape]:
    """Makes a model of transformers use `document_attention` if that keeps its documents apart.

    Returns the shapes with which its layers call the attention; an empty set if documents are not kept apart.

    A trial on twelve tokens decides: models with other state, with attention sinks or capped scores, or that
    do not pass `document_spans` on, give other hidden states than document by document. A limit on how far
    back a token sees does not show on twelve tokens; it must reach the attention function, since masks are
    not used. Models that fail are left unchanged.
    """
    before, was_training = causal_lm.config._attn_implementation, causal_lm.training
    causal_lm.eval()
    try:
        if shapes := _shapes_if_apart(causal_lm):
            use_document_attention(causal_lm)
            return shapes
    except (TypeError, ValueError, RuntimeError):  # it takes no such argument, or no such attention
        pass
    finally:
        causal_lm.train(was_training)
    causal_lm.set_attn_implementation(before)
    return frozenset()


def use_document_attention(causal_lm: Any) -> None:
    """Makes the model use `document_attention`, without the trial that `attend_by_document` makes."""
    AttentionInterface.register(NAME, document_attention)
    causal_lm.set_attn_implementation(NAME)


def _shapes_if_apart(causal_lm: Any) -> frozenset[AttentionShape]:
    """Returns the calls of the attention if twelve tokens of two documents have the same states together as
    separately.

    The attention function that is tried stays set.
    """
    device = next(causal_lm.parameters()).device
    config = causal_lm.config.get_text_config()
    ids_T = torch.arange(sum(PROBE_LENGTHS), device=device) % config.vocab_size
    body, shapes = body_of(causal_lm), set[AttentionShape]()

    def noted_attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        shapes.add(
            AttentionShape(
                num_heads=query.shape[1],
                num_groups=key.shape[1],
                key_size=key.shape[-1],
                value_size=value.shape[-1],
                window=kwargs.get("sliding_window"),
                scaling=kwargs.get("scaling"),
            )
        )
        return document_attention(module, query, key, value, *args, **kwargs)

    alone = [
        body(input_ids=part[None], use_cache=False).last_hidden_state for part in ids_T.split(PROBE_LENGTHS)
    ]
    AttentionInterface.register(PROBE, noted_attention)
    causal_lm.set_attn_implementation(PROBE)
    together = body(
        input_ids=ids_T[None],
        position_ids=torch.cat([torch.arange(n, device=device) for n in PROBE_LENGTHS])[None],
        document_spans=DocumentSpans.of(PROBE_LENGTHS, device),
        use_cache=False,
    ).last_hidden_state
    is_apart = torch.allclose(together, torch.cat(alone, dim=1), rtol=1e-3, atol=1e-4)
    is_known = limits_are_known(config, {shape.window for shape in shapes})
    return frozenset(shapes) if is_apart and is_known else frozenset()


def limits_are_known(config: Any, windows: set[int | None]) -> bool:
    """Returns whether `document_attention` is told every limit on how far back the model's tokens attend.

    `windows` are the sliding windows that the layers passed to it; None means without limit.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        has_window = bool(getattr(config, "sliding_window", None))
    elif "chunked_attention" in kinds:
        return False
    else:
        has_window = "sliding_attention" in kinds
    return not has_window or bool(windows - {None})


def document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    document_spans: DocumentSpans | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Returns attention (1, T, H, E) of queries (1, H, T, E) to keys and values (1, G, T, E), and None.

    Without `document_spans` each row of the batch is one document (B, H, T, E), as in plain scoring. The pair
    is what transformers expects of an attention function.
    """
    spans = document_spans or DocumentSpans.of([query.shape[2]], query.device)
    window = sliding_window if sliding_window is not None and sliding_window < max(spans.lengths) else None
    is_alone = query.shape[0] == 1 and dropout == 0
    if query.is_cuda and query.dtype != torch.float32 and is_alone and flash_takes(query, key, value):
        return _flash(query, key, value, spans, scaling, window), None
    attended = []
    for start, end in spans.bounds:
        query_1HTE, key_1GTE, value_1GTE = (t[:, :, start:end] for t in (query, key, value))
        attended.append(
            _causal(query_1HTE, key_1GTE, value_1GTE, scaling=scaling, dropout=dropout, window=window)
        )
    return torch.cat(attended, dim=2).transpose(1, 2), None


def flash_takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Returns whether the flash kernel supports these head sizes (the last axis).

    A trial in fp32 does not show it.
    """
    size = query.shape[-1]
    return size == key.shape[-1] == value.shape[-1] and size <= LARGEST_HEAD and size % 8 == 0


def _causal(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None, dropout: float, window: int | None
) -> Tensor:
    length = query.shape[2]
    mask_TT = None
    if window is not None and window < length:
        mask_TT = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        mask_TT = mask_TT.triu(1 - window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask_TT,
        is_causal=mask_TT is None,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: DocumentSpans,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    longest = max(spans.lengths)
    query_THE, key_TGE, value_TGE = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    attended_THE: Tensor = varlen_attn(  # type: ignore[assignment]  # a pair only with return_aux
        query_THE,
        key_TGE,
        value_TGE,
        spans.edges,
        spans.edges,
        longest,
        longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended_THE[None]
