"""Decodes one step of many problems: draws a token from each pair of logit rows and appends it.

Both engines call this function, so they draw the same tokens from the same logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from drsft.policy.hinted.continuation import Continuation
from drsft.policy.hinted.mixing import draw, mix, sampling_logprobs

__all__ = ["decode_step"]


def decode_step(
    continuations: Sequence[Continuation], hinted_BV: Tensor, plain_BV: Tensor, *, vocab_size: int
) -> list[int]:
    """Draws a token for each of the B continuations, appends it, and returns the B token ids.

    Row i of the logits (B, V) follows the hinted or the plain prompt of continuation i.
    """
    groups: dict[object, list[int]] = {}
    for index, one in enumerate(continuations):
        key = (one.mixing, one.sampling.temperature, one.sampling.top_p)
        groups.setdefault(key, []).append(index)
    tokens_B = [0] * len(continuations)
    for indices in groups.values():
        members = [continuations[index] for index in indices]
        rows = slice(None) if len(groups) == 1 else torch.tensor(indices, device=hinted_BV.device)
        drawn = _draw(members, hinted_BV[rows].float(), plain_BV[rows].float(), vocab_size)
        for index, one, (token_id, logprob) in zip(indices, members, drawn, strict=True):
            one.append(token_id, logprob)
            tokens_B[index] = token_id
    return tokens_B


def _draw(
    members: Sequence[Continuation], hinted_BV: Tensor, plain_BV: Tensor, vocab_size: int
) -> list[tuple[int, float]]:
    """Returns token and log-prob for continuations that share their settings."""
    mixing, sampling = members[0].mixing, members[0].sampling
    device = hinted_BV.device
    mixture = mix(
        hinted_BV,
        plain_BV,
        mixing.schedule,
        vocab_size=vocab_size,
        forced_weight_B=torch.tensor([one.forced_weight() for one in members], device=device),
    )
    if sampling.temperature == 0:
        tokens_B = mixture.logprobs_BV.argmax(-1)
        return [(token_id, 0.0) for token_id in tokens_B.tolist()]
    logprobs_BV = sampling_logprobs(
        mixture.logprobs_BV,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        temperature_first=mixing.order == "temperature_first",
    )
    uniform_B = torch.tensor([one.uniform() for one in members], dtype=torch.float64, device=device)
    tokens_B = draw(logprobs_BV, uniform_B)
    drawn_logprobs_B = logprobs_BV.gather(-1, tokens_B[:, None])[:, 0]
    return list(zip(tokens_B.tolist(), drawn_logprobs_B.tolist(), strict=True))
