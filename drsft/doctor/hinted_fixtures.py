"""Hinted Decoding's mixing against numbers: the block `hinted_decoding_steps` of a fixtures file.

A step gives two rows of logits, the schedule and the sampling settings, and what must come of them.
"""

from collections.abc import Mapping
from typing import Any

import torch

from drsft.config import Linear, Piecewise, Schedule, Sigmoid
from drsft.errors import InputError
from drsft.policy.hinted.mixing import mix, sampling_logprobs

__all__ = ["hinted_step_errors"]


def hinted_step_errors(step: Mapping[str, Any]) -> dict[str, float]:
    """The largest absolute error of every expected quantity, in float64; `greedy` counts in token ids.

    Raises InputError for a step that cannot be read.
    """
    try:
        found = _computed(step)
        expected = {name: torch.tensor(step[name], dtype=torch.float64) for name in found if name in step}
        for name, value in expected.items():
            if value.shape != found[name].shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {tuple(found[name].shape)}")
        return {name: float((found[name] - value).abs().max()) for name, value in expected.items()}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        name = step.get("name", "unnamed") if isinstance(step, Mapping) else step
        raise InputError(f"hinted_decoding_steps, {name}: not a step: {error!r}") from error


def _computed(step: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    hinted_1V, plain_1V = (
        torch.tensor([step[name]], dtype=torch.float64) for name in ("hinted_logits", "plain_logits")
    )
    vocab_size = step["vocab_size_for_norm"]
    mixture = mix(hinted_1V, plain_1V, _schedule(step), vocab_size=vocab_size)
    temperature, top_p = step["temperature"], step["top_p"]
    demo_1V, engine_1V = (
        sampling_logprobs(
            mixture.logprobs_BV, temperature=temperature, top_p=top_p, temperature_first=is_first
        )
        for is_first in (False, True)
    )
    return {
        "entropy_hinted": mixture.entropy_B[0],
        "entropy_norm": mixture.entropy_B[0] / torch.tensor(vocab_size, dtype=torch.float64).log(),
        "lam": mixture.weight_B[0],
        "mix_log_unnormalised": mixture.log_scores_BV[0],
        "mix_probs_T1": mixture.logprobs_BV[0].exp(),
        "sampling_probs_demo_order_topp_then_temperature": demo_1V[0].exp(),
        "sampling_probs_engine_order_temperature_then_topp": engine_1V[0].exp(),
        "greedy": mixture.logprobs_BV[0].argmax().double(),
    }


def _schedule(step: Mapping[str, Any]) -> Schedule:
    match step["lambda_mode"]:
        case "linear":
            return Linear(beta=step["beta"])
        case "sigmoid":
            return Sigmoid(beta=step["beta"], centre=step["sigmoid_center"])
        case "piecewise":
            low, high = step["piecewise_bounds"]
            return Piecewise(low=low, high=high)
        case other:
            raise ValueError(f"lambda_mode {other!r}; known are linear, sigmoid and piecewise")
