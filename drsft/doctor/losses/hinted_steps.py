"""Checks Hinted Decoding's mixing against the block `hinted_decoding_steps` of a fixtures file.

A step gives two rows of logits, the schedule, the sampling settings, and the expected results.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from drsft.config import Constant, Linear, Piecewise, Schedule, Sigmoid
from drsft.doctor.losses.findings import error_between
from drsft.errors import InputError
from drsft.policy.hinted.mixing import Mixture, mix, normalised_entropy, sampling_logprobs

__all__ = ["hinted_step_errors"]

NO_TOP_K = (None, 0, -1)  # the values with which files and engines switch a limit off


def hinted_step_errors(step: Mapping[str, Any]) -> dict[str, float]:
    """Returns the error (`error_between`, in float64) of every quantity that the step expects, by name.

    The error of `greedy` is that of a token id. Raises InputError for a step that cannot be read, or that
    expects nothing.
    """
    try:
        found = _computed(step)
        expected = {name: _tensor(step[name]) for name in found if name in step}
        if not expected:
            raise ValueError(f"the step states no expected value; give at least one of {', '.join(found)}")
        for name, value in expected.items():
            if value.shape != found[name].shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {tuple(found[name].shape)}")
        return {name: error_between(found[name], value) for name, value in expected.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        name = step.get("name", "unnamed") if isinstance(step, Mapping) else step
        raise InputError(f"hinted_decoding_steps, step {name!r}: cannot be read: {error!r}") from error


def _computed(step: Mapping[str, Any]) -> dict[str, Tensor]:
    hinted_1V, plain_1V = (_tensor([step[name]]) for name in ("hinted_logits", "plain_logits"))
    vocab_size = step.get("vocab_size_for_norm") or hinted_1V.shape[-1]
    mixture = mix(hinted_1V, plain_1V, _schedule(step), vocab_size=vocab_size)
    return {
        "entropy_hinted": mixture.entropy_B[0],
        "entropy_norm": normalised_entropy(mixture.entropy_B, vocab_size=vocab_size)[0],
        "lam": mixture.weight_B[0],
        "mix_log_unnormalised": mixture.log_scores_BV[0],
        "mix_probs_T1": mixture.logprobs_BV[0].exp(),
        "sampling_probs_demo_order_topp_then_temperature": _sampled(step, mixture, temperature_first=False),
        "sampling_probs_engine_order_temperature_then_topp": _sampled(step, mixture, temperature_first=True),
        "greedy": mixture.logprobs_BV[0].argmax().double(),
    }


def _sampled(step: Mapping[str, Any], mixture: Mixture, *, temperature_first: bool) -> Tensor:
    """Returns the probabilities that are sampled from; a step may omit settings that change nothing."""
    if step.get("top_k") not in NO_TOP_K:
        raise ValueError("top_k is not supported: Hinted Decoding draws from the nucleus (top_p)")
    temperature, top_p = step.get("temperature"), step.get("top_p")
    logprobs_1V = sampling_logprobs(
        mixture.logprobs_BV,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        temperature_first=temperature_first,
    )
    return logprobs_1V[0].exp()


def _schedule(step: Mapping[str, Any]) -> Schedule:
    match step.get("lambda_mode", "linear"):
        case "linear":
            return Linear(beta=step["beta"])
        case "sigmoid":
            return Sigmoid(beta=step["beta"], centre=step.get("sigmoid_center", Sigmoid().centre))
        case "piecewise":
            low, high = step.get("piecewise_bounds") or (Piecewise().low, Piecewise().high)
            return Piecewise(low=low, high=high)
        case "constant":
            return Constant(weight=step["weight"])
        case other:
            raise ValueError(f"lambda_mode {other!r}; known are linear, sigmoid, piecewise and constant")


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
