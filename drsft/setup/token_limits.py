"""Derives token limits from the lengths of the data and the positions of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from drsft.errors import ModelError
from drsft.policy.prompts import Prompter
from drsft.records import Problem

__all__ = ["TextTokens", "TokenLimits", "measure_texts", "token_limits"]

STEP = 64
MIN_ANSWER_TOKENS, UNKNOWN_ANSWER_TOKENS = 256, 1024
HEADROOM = 2  # a model that solves step by step writes more than the expert did


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTokens:
    """Numbers of tokens, one per measured problem: of its plain prompt, guided prompt and demonstration."""

    plain: tuple[int, ...]
    guided: tuple[int, ...]
    demonstrations: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    max_model_len: int
    max_tokens: int
    seq_len: int
    p99_demonstration: int
    longest_prompt: int
    is_cut_by_positions: bool


def measure_texts(problems: Sequence[Problem], prompter: Prompter) -> TextTokens:
    return TextTokens(
        plain=tuple(len(prompter.plain(one)) for one in problems),
        guided=tuple(len(prompter.guided(one)) for one in problems),
        demonstrations=tuple(len(prompter.completion(one.demonstration)) for one in problems),
    )


def token_limits(tokens: TextTokens, *, num_positions: int | None, has_solutions: bool) -> TokenLimits:
    """Returns limits that suit the problems and do not exceed the model's positions (None: no limit).

    A sequence has room for a guided prompt and a completion twice as long as 99 % of the demonstrations.
    Raises ModelError if half of the problems with their solutions exceed the model's positions.
    """
    p99 = _percentile(tokens.demonstrations, 0.99)
    prompt = _rounded_up(max(_percentile(tokens.guided, 0.99), max(tokens.plain)) + 16)
    wanted = _rounded_up(max(MIN_ANSWER_TOKENS, HEADROOM * p99)) if has_solutions else UNKNOWN_ANSWER_TOKENS
    longest = max(p + d for p, d in zip(tokens.plain, tokens.demonstrations, strict=True))
    wanted_len = _rounded_up(max(prompt + wanted, longest))
    max_model_len = wanted_len if num_positions is None else min(wanted_len, num_positions)
    median = _percentile(tokens.guided, 0.5) + _percentile(tokens.demonstrations, 0.5)
    if median > max_model_len:
        raise ModelError(
            f"--model: half of the problems take {median:,} tokens or more with their solutions, and the "
            f"model has {max_model_len:,} positions; give a model with more"
        )
    max_tokens = max(min(wanted, max_model_len - prompt), min(wanted, max_model_len // 2))
    return TokenLimits(
        max_model_len=max_model_len,
        max_tokens=max_tokens,
        seq_len=min(max_model_len, _rounded_up(max(max(tokens.plain) + max_tokens, longest))),
        p99_demonstration=p99,
        longest_prompt=max(tokens.guided),
        is_cut_by_positions=max_model_len < wanted_len,
    )


def _percentile(numbers: Sequence[int], share: float) -> int:
    ordered = sorted(numbers)
    return ordered[round((len(ordered) - 1) * share)]


def _rounded_up(number: int) -> int:
    return -(-number // STEP) * STEP
