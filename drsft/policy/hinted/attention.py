"""Computes attention of a decoding step without repeating the cached keys and values for each query head.

If several query heads share one key head, transformers repeats keys and values for them at every token: with
hundreds of rows that copy took three quarters of a step's time. Here the query heads of a group take the
place of query positions, which gives the same product without a copy.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["group_queries"]

NAME = "drsft_grouped"


def group_queries(model: Any) -> None:
    """Makes a model with PyTorch's own attention ("sdpa") decode without repeating the cached keys and values
    for each query head. A model with another attention stays unchanged.
    """
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def _attend(
    module: Any,
    query_BHTE: Tensor,
    key_BGLE: Tensor,
    value_BGLE: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Returns attention (B, T, H, E) of B rows, H query heads over G key heads, T new tokens and L cached
    ones.
    """
    num_rows, num_heads, length, size = query_BHTE.shape
    if length > 1 or attention_mask is None or position_bias is not None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module,
            query_BHTE,
            key_BGLE,
            value_BGLE,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            position_bias=position_bias,
            **options,
        )
        return attended
    grouped = query_BHTE.reshape(num_rows, key_BGLE.shape[1], -1, size)
    attended_grouped = scaled_dot_product_attention(
        grouped, key_BGLE, value_BGLE, attn_mask=attention_mask, scale=scaling
    )
    return attended_grouped.reshape(num_rows, 1, num_heads, -1), None
