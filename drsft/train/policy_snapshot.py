"""Keeps a snapshot of the policy, as log-probs of the rows of the steps that use it.

All steps of a window use the same snapshot; a window is `steps_per_snapshot` steps long and starts at a
multiple of that number. A checkpoint inside a window stores it, so that a resumed training compares with the
same policy.
"""

from dataclasses import replace
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from drsft.errors import StorageError
from drsft.objectives.document_means import median_document_loss
from drsft.run.layout import SNAPSHOT
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.job import Training
from drsft.train.micro_batch import micro_batch
from drsft.train.model import ScoringModel
from drsft.train.order import RowOrder
from drsft.train.reference import References
from drsft.train.scores import Places, Scores, score

__all__ = ["snapshot_files", "stored_snapshot", "take_snapshot"]


def take_snapshot(training: Training, references: References, model: ScoringModel, step: int) -> References:
    """Returns `references` with log-probs of this step's rows under the snapshot, and with their median loss.

    The first step of a window scores the rows of the whole window under the current model. If the objective
    needs no snapshot, `references` are returned unchanged.
    """
    every, rows, order = _steps_per_snapshot(training), training.rows, training.order
    if every is None:
        return references
    snapshot = references.snapshot
    if snapshot is None or step % every == 0:
        wanted, micro_batch_rows = _window_rows(step, every, order), training.settings.micro_batch_rows
        snapshot = score(model, rows, wanted, micro_batch_rows=micro_batch_rows, world=training.world)
    step_rows = order.rows_of(step)
    documents = micro_batch(rows, [int(row) for row in step_rows], torch.device("cpu"))
    median = median_document_loss(snapshot.of(rows, step_rows).cpu(), documents.document_ids_N)
    return replace(references, snapshot=snapshot, median_loss=median)


def snapshot_files(training: Training, references: References, num_done: int) -> dict[str, bytes]:
    """Returns the file, by name, that stores the snapshot in the checkpoint after `num_done` steps.

    Returns {} if there is no snapshot, or if the next step begins a window.
    """
    every = _steps_per_snapshot(training)
    if references.snapshot is None or every is None or num_done % every == 0:
        return {}
    buffer = BytesIO()
    np.save(buffer, references.snapshot.logprobs_T.cpu().numpy())
    return {SNAPSHOT: buffer.getvalue()}


def stored_snapshot(training: Training, references: References, store: Store, step: int) -> References:
    """Returns `references` with the snapshot stored in the checkpoint of `step`; unchanged if there is none.

    All processes must call it. Raises StorageError if the snapshot is damaged, or belongs to other rows.
    """
    every, world = _steps_per_snapshot(training), training.world
    data = None if every is None else checkpoint.read_beside(store, SNAPSHOT, step=step, world=world)
    if every is None or data is None:
        return references
    places = Places.of(training.rows, _window_rows(step, every, training.order))
    which = f"{SNAPSHOT} of the checkpoint of step {step}"
    try:
        kept_T = np.load(BytesIO(data), allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise StorageError(
            f"{which} cannot be read; remove this file, and a new snapshot is taken"
        ) from error
    if kept_T.shape != (places.num_tokens,) or kept_T.dtype != np.float32:
        raise StorageError(f"{which} belongs to other rows; remove this file, and a new snapshot is taken")
    logprobs_T = torch.from_numpy(kept_T).to(world.device)
    return replace(references, snapshot=Scores(places=places, logprobs_T=logprobs_T))


def _steps_per_snapshot(training: Training) -> int | None:
    return training.objective.needs.steps_per_snapshot


def _window_rows(step: int, every: int, order: RowOrder) -> NDArray[np.int64]:
    """Returns the rows of all steps that share the snapshot of `step`."""
    first = step - step % every
    window = range(first, min(first + every, order.num_steps))
    return np.concatenate([order.rows_of(one) for one in window])
