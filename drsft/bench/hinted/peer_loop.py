"""The baseline of the bench: Hinted Decoding of one problem at a time, without a KV cache, as in the code
that the method's authors released.

It runs two forward passes over the whole text for each token, with batch size 1, and follows the paper's
rules step by step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from drsft.config import Linear
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.prompts import Prompter

__all__ = ["decode_by_default", "decode_one_by_one"]


def decode_by_default(
    model: Any, prompter: Prompter, contexts: Contexts, *, max_tokens: int
) -> tuple[int, ...]:
    """Returns the ids of one problem's greedy completion, with the schedule and marker of `Mixing()`."""
    return decode_one_by_one(
        model,
        contexts,
        beta=Linear().beta,
        marker="\\boxed{",
        max_tokens=max_tokens,
        stop_ids=frozenset(prompter.turn.end_token_ids),
        decode=prompter.decode,
    )


@torch.inference_mode()
def decode_one_by_one(
    model: Any,
    contexts: Contexts,
    *,
    beta: float,
    marker: str,
    max_tokens: int,
    stop_ids: frozenset[int],
    decode: Callable[[Sequence[int]], str],
) -> tuple[int, ...]:
    """Returns the ids of one problem's greedy completion, at most `max_tokens`.

    The next-token distributions of its two contexts are mixed with the schedule `Linear(beta)`. Once the
    decoded text contains `marker`, only the plain context counts.
    """
    out: list[int] = []
    is_answered = False
    while len(out) < max_tokens and not (out and out[-1] in stop_ids):
        hinted_V, plain_V = (
            model(torch.tensor([[*prompt, *out]], device=model.device), use_cache=False).logits[0, -1].float()
            for prompt in (contexts.hinted_ids, contexts.plain_ids)
        )
        log_p, log_q = hinted_V.log_softmax(-1), plain_V.log_softmax(-1)
        entropy = float(-(log_p.exp() * log_p).sum())
        weight = min(beta * entropy / math.log(len(log_p)), 1.0)
        weight = 0.0 if not out else 1.0 if is_answered else weight
        out.append(int(((1 - weight) * log_p + weight * log_q).argmax()))
        is_answered = is_answered or marker in decode(out)
    return tuple(out)
