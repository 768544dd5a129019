"""Scores texts under a model and returns a table of their scores.

Axes: T tokens of one text. Log-probs, entropies and phi are in nats, under one model with the plain prompt.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from drsft.gap.scored_texts import (
    COMPARED,
    IDENTITY_COLUMNS,
    PART_COLUMNS,
    PHI_THRESHOLDS,
    SCORE_SCHEMA,
    Text,
)
from drsft.gap.scoring import CausalLM, TokenScores, score_rows
from drsft.objectives.statistics import TokenStatistics
from drsft.objectives.weights import TokenContext, token_weights
from drsft.policy.prompts import Prompter

__all__ = ["score_table", "score_texts"]


def score_table(
    texts: Sequence[Text],
    scores: Sequence[TokenScores],
    *,
    num_thought_tokens: Sequence[int] | None = None,
) -> pa.Table:
    """Returns one row for each text: means over its tokens, and each token's numbers (SCORE_SCHEMA).

    `num_thought_tokens` is how many of each text's first tokens are its thought; None if unknown.
    """
    columns: dict[str, Any] = {
        name: [getattr(text, name) for text in texts] for name in (*IDENTITY_COLUMNS, "completion_ids")
    }
    columns["logprobs"] = [one.logprobs_T for one in scores]
    columns["entropy"] = [one.entropy_T for one in scores]
    columns["num_tokens"] = [len(one.logprobs_T) for one in scores]
    if not texts:
        return SCORE_SCHEMA.empty_table()
    columns |= _thought_columns(scores, num_thought_tokens)
    logprobs_T = np.concatenate(columns["logprobs"])
    entropy_T = np.concatenate(columns["entropy"])
    ends = np.cumsum(columns["num_tokens"])
    columns |= {
        name: _means(values_T, ends)
        for name, values_T in _token_columns(logprobs_T, entropy_T, columns["num_tokens"]).items()
    }
    return pa.table(columns, schema=SCORE_SCHEMA)


def score_texts(model: CausalLM, texts: Sequence[Text], prompter: Prompter) -> pa.Table:
    """Returns the `score_table` of the texts under `model`, the prompter's model.

    The table separates thoughts from answers if the model's turn has thoughts.
    """
    scores = score_rows(model, [(text.prompt_ids, text.completion_ids) for text in texts])
    if prompter.turn.thought is None:
        return score_table(texts, scores)
    lengths = [prompter.split(text.completion_ids).num_thought_tokens for text in texts]
    return score_table(texts, scores, num_thought_tokens=lengths)


def _thought_columns(
    scores: Sequence[TokenScores], num_thought_tokens: Sequence[int] | None
) -> dict[str, Sequence[float | None]]:
    """Returns the sums over each text's thought.

    They are sums, not means, so that subtracting them from the text's totals gives the answers' sums.
    """
    if num_thought_tokens is None:
        return {name: [None] * len(scores) for name in PART_COLUMNS}
    parts = list(zip(scores, num_thought_tokens, strict=True))
    return {
        "num_thought_tokens": num_thought_tokens,
        "sum_thought_logprob": [float(one.logprobs_T[:length].sum()) for one, length in parts],
        "sum_thought_phi": [float(one.phi_T[:length].sum()) for one, length in parts],
    }


def _token_columns(
    logprobs_T: NDArray[np.float64], entropy_T: NDArray[np.float64], lengths: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Returns the per-token values to be averaged over each text, by column."""
    phi_T = logprobs_T + entropy_T
    columns = {"mean_logprob": logprobs_T, "mean_entropy": entropy_T, "mean_phi": phi_T}
    for threshold in PHI_THRESHOLDS:
        columns[f"phi_below_{-threshold}"] = (phi_T < threshold).astype(np.float64)
    statistics = TokenStatistics(torch.from_numpy(logprobs_T), torch.from_numpy(entropy_T))
    document_ids_T = torch.repeat_interleave(torch.tensor(lengths))
    context = TokenContext.at_start(statistics, document_ids_T)
    for objective in COMPARED:
        weight_T = token_weights(objective, statistics, context).numpy()
        columns[f"mean_weight_{objective.kind}"] = weight_T
        columns[f"mean_squared_weight_{objective.kind}"] = weight_T**2
    return columns


def _means(values_T: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the mean of each text's segment; `ends` are the indices where the segments end."""
    starts = np.concatenate([[0], ends[:-1]])
    means: NDArray[np.float64] = np.add.reduceat(values_T, starts) / (ends - starts)
    return means
