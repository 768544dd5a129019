"""Hinted Decoding read again, slowly: plain Python numbers, one problem at a time, no KV cache, no sharing.

Nothing here uses drsft's mixing or its engines; only the number that draws a token is the same by contract.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Row = list[float]


def log_softmax(logits: Row) -> Row:
    top = max(logits)
    total = top + math.log(math.fsum(math.exp(x - top) for x in logits))
    return [x - total for x in logits]


def entropy(logprobs: Row) -> float:
    return -math.fsum(math.exp(x) * x for x in logprobs if x > -math.inf)


def linear(beta: float) -> Callable[[float], float]:
    return lambda h: min(max(beta * h, 0.0), 1.0)


DEFAULT = linear(3.0)


def mixed(hinted: Row, plain: Row, weight: float) -> Row:
    pairs = zip(log_softmax(hinted), log_softmax(plain), strict=True)
    if weight in (0.0, 1.0):
        return log_softmax(plain if weight else hinted)
    return log_softmax([(1 - weight) * p + weight * q for p, q in pairs])


def kept_tokens(logprobs: Row, top_p: float) -> set[int]:
    kept, mass = set(), 0.0
    for token in sorted(range(len(logprobs)), key=lambda i: (-logprobs[i], i)):
        if mass > top_p:
            break
        kept.add(token)
        mass += math.exp(logprobs[token])
    return kept


def sampling_distribution(logprobs: Row, temperature: float, top_p: float, temperature_first: bool) -> Row:
    if temperature == 0:
        best = max(range(len(logprobs)), key=lambda i: (logprobs[i], -i))
        return [1.0 if i == best else 0.0 for i in range(len(logprobs))]
    tempered = log_softmax([x / temperature for x in logprobs])
    kept = kept_tokens(tempered if temperature_first else logprobs, top_p)
    weights = [math.exp(x) if i in kept else 0.0 for i, x in enumerate(tempered)]
    return [w / math.fsum(weights) for w in weights]


def drawn(probs: Row, seed: int, position: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    number = (int.from_bytes(digest, "big") >> 12) / 2**52
    total = 0.0
    for token, prob in enumerate(probs):
        total += prob
        if total > number:
            return token
    raise AssertionError("the probabilities do not add up")


@dataclass(frozen=True, kw_only=True)
class Settings:
    weight_of: Callable[[float], float] = DEFAULT
    temperature: float = 0.0
    top_p: float = 1.0
    temperature_first: bool = False
    hinted_first: bool = True
    marker: str | None = "\\boxed{"
    max_tokens: int = 96
    seed: int = 0


@torch.no_grad()
def decode_one(
    model: Any, decode: Callable[[list[int]], str], hinted: Sequence[int], plain: Sequence[int], stop_id: int,
    settings: Settings,
) -> list[int]:  # fmt: skip
    """The continuation's ids before leading white space goes, one token after the other."""
    out: list[int] = []
    while len(out) < settings.max_tokens:
        logits_p, logits_q = (_last_logits(model, [*prompt, *out]) for prompt in (hinted, plain))
        weight = settings.weight_of(entropy(log_softmax(logits_p)) / math.log(len(logits_p)))
        if settings.marker and settings.marker in decode(out):
            weight = 1.0
        if not out and settings.hinted_first:
            weight = 0.0
        probs = sampling_distribution(
            mixed(logits_p, logits_q, weight),
            settings.temperature,
            settings.top_p,
            settings.temperature_first,
        )
        out.append(drawn(probs, settings.seed, len(out)))
        if out[-1] == stop_id:
            break
    return out


def _last_logits(model: Any, ids: list[int]) -> Row:
    logits_V: Row = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double().tolist()
    return logits_V
