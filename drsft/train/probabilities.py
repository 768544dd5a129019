"""Counts how likely the model finds the tokens that it trains on, before and after training.

Objectives differ in where they move probability: SFT raises nearly all tokens, DFT raises some and lowers
others (Wu et al., "On the Generalization of SFT"). The loss tokens of evenly spread training rows are
counted, in bins that are equally wide in log p.
"""

import json
import math

import numpy as np
from numpy.typing import NDArray

from drsft.run.layout import TRAINING
from drsft.storage import Store
from drsft.train.job import Training
from drsft.train.model import ScoringModel
from drsft.train.pack import PackedRows
from drsft.train.scores import score
from drsft.train.world import World

__all__ = ["LOG10_EDGES", "count_probabilities", "note_probabilities", "sampled_rows"]

LOG10_EDGES = tuple(index / 4 for index in range(-24, 1))  # of p; the first bin takes what is below, too
SAMPLE_TOKENS = 16_384  # enough to see shares of 0.1 %, and a small part of the cheapest training


def note_probabilities(moment: str, training: Training, store: Store, model: ScoringModel) -> None:
    """Stores the counts of `moment` ("before" or "after"), unless an earlier start of the job has stored
    them.

    It keeps the stored counts of the other moment. All processes call it.
    """
    world, micro_batch_rows = training.world, training.settings.micro_batch_rows
    noted = json.loads(store.read(TRAINING.probabilities)) if store.exists(TRAINING.probabilities) else {}
    if world.from_first(moment in noted):
        return
    counts = count_probabilities(model, training.rows, micro_batch_rows=micro_batch_rows, world=world)
    if world.is_first:
        body = {"log10_edges": LOG10_EDGES, **noted, moment: counts}
        store.put(TRAINING.probabilities, json.dumps(body).encode())


def count_probabilities(
    model: ScoringModel, rows: PackedRows, *, micro_batch_rows: int, world: World
) -> list[int]:
    """Returns how many loss tokens of the sampled rows have a probability in each bin of LOG10_EDGES."""
    sampled = sampled_rows(rows)
    was_training = model.training
    model.eval()
    scores = score(model, rows, sampled, micro_batch_rows=micro_batch_rows, world=world)
    model.train(was_training)
    log10_N = scores.of(rows, sampled).double().cpu().numpy() / math.log(10)
    counts, _ = np.histogram(np.clip(log10_N, LOG10_EDGES[0], 0.0), bins=np.array(LOG10_EDGES))
    return [int(count) for count in counts]


def sampled_rows(rows: PackedRows) -> NDArray[np.int64]:
    """Returns the indices of evenly spread rows with about SAMPLE_TOKENS loss tokens in total.

    Returns all rows if they have fewer.
    """
    total = rows.num_loss_tokens(range(len(rows)))
    num_rows = min(len(rows), max(1, round(len(rows) * SAMPLE_TOKENS / max(total, 1))))
    return np.linspace(0, len(rows) - 1, num_rows).round().astype(np.int64)
