"""Stores checkpoints: every process writes its own files, and a commit object, written last, makes them
valid.

Layout under a job's prefix:
    checkpoints/step-000100/.metadata, __0_0.distcp, …   torch.distributed.checkpoint
    checkpoints/step-000100/commit.json                  {"step": 100, "num_workers": 2, "score": …}

The learning rate, the order of the rows and the random numbers are functions of the step and the seed, so the
step's number is enough to restore the position in the data and every generator. Besides it, only weights and
optimiser state are saved.

Saving stops training only for the copy to a local file. The upload continues during the next steps.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save as save_state

from drsft.errors import StorageError
from drsft.run.layout import TRAINING
from drsft.storage import Store
from drsft.storage.typed import read_stored
from drsft.train.checkpoint_reader import load_tensors
from drsft.train.world import World

__all__ = ["Checkpointer", "Commit", "commits", "load", "load_latest", "read_beside"]

_CHECKPOINTS = TRAINING.checkpoints
NUM_ATTEMPTS, LONGEST_PAUSE_S = 5, 8.0  # of each object's upload
# Frozen weights are the target's own: only what is trained is kept.
_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)
NO_FILES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    step: int
    num_workers: int
    score: float | None = None  # on held-out rows, lower is better; none without them


@dataclass(slots=True)
class _Upload:
    """This process's part of a checkpoint while it is uploaded."""

    commit: Commit
    folder: TemporaryDirectory[str]
    future: Future[None]


class Checkpointer:
    """Writes the checkpoints of one job. All processes make the same calls in the same order."""

    def __init__(self, store: Store, world: World, *, num_kept: int) -> None:
        """Keeps the newest `num_kept` checkpoints, and the one with the best score."""
        self._store, self._world, self._num_kept = store, world, num_kept
        self._upload: _Upload | None = None
        self.newest_step = 0  # that this process saw committed

    def save(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        step: int,
        score: float | None = None,
        files: Mapping[str, bytes] = NO_FILES,
    ) -> None:
        """Waits for the previous checkpoint's upload and commits it; then starts the upload of a new one.

        The state after `step` steps is written to a temporary folder on the local disk, so training can
        continue during the upload. `score` decides which checkpoint `best` returns. `files` of the first
        process are stored in the checkpoint. Raises the error of the previous upload.
        """
        self.finish()
        folder = TemporaryDirectory(prefix="drsft-checkpoint-")
        # Each process has its own folder, as on several machines; the first one's holds the metadata.
        writer = FileSystemWriter(folder.name, sync_files=False)
        save_state(_state(model, optimiser), storage_writer=writer, no_dist=self._world.size == 1)
        if self._world.is_first:
            for name, data in files.items():
                (Path(folder.name) / name).write_bytes(data)
        thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-upload")
        future = thread.submit(_upload_folder, self._store, Path(folder.name), step)
        thread.shutdown(wait=False)  # it ends with the upload
        commit = Commit(step=step, num_workers=self._world.size, score=score)
        self._upload = _Upload(commit, folder, future)

    def poll(self) -> None:
        """Commits the current checkpoint if every process has uploaded its part; never waits for uploads."""
        if self._upload is None:
            return
        is_done = torch.tensor([float(self._upload.future.done())], device=self._world.device)
        if self._world.global_sum(is_done).item() == self._world.size:
            self.finish()

    def finish(self) -> None:
        """Waits until the current checkpoint is uploaded and commits it; does nothing if there is none.

        Raises the error of this process's upload.
        """
        if self._upload is None:
            return
        upload, self._upload = self._upload, None
        with upload.folder:
            upload.future.result()
        self._world.barrier()
        self.newest_step = upload.commit.step
        if self._world.is_first:
            commit = {name: getattr(upload.commit, name) for name in Commit.__slots__}
            self._store.create(_CHECKPOINTS.commit(upload.commit.step), json.dumps(commit).encode())
            _delete_old(self._store, self._num_kept)


def load_latest(store: Store, model: nn.Module, optimiser: torch.optim.Optimizer, *, world: World) -> int:
    """Loads the newest committed checkpoint and returns its step. If there is none, returns 0 and changes
    nothing.

    The number of processes may differ from that of the process group that wrote it.
    """
    steps = [commit.step for commit in commits(store)] if world.is_first else []
    step = world.from_first(max(steps, default=0))
    if step:
        load(store, model, optimiser, step=step, world=world)
    return step


def load(
    store: Store, model: nn.Module, optimiser: torch.optim.Optimizer, *, step: int, world: World
) -> None:
    """Loads the committed checkpoint of `step` into model and optimiser. All processes must call it.

    Raises StorageError if it cannot be read.
    """
    _begin_state(optimiser)
    state = _state(model, optimiser)
    load_tensors(state, store.within(_CHECKPOINTS.step(step)), is_alone=world.size == 1)
    set_model_state_dict(model, state["model"], options=_OPTIONS)
    groups = get_optimizer_state_dict(model, optimiser, options=_OPTIONS)["param_groups"]
    set_optimizer_state_dict(
        model, optimiser, {**state["optimiser"], "param_groups": groups}, options=_OPTIONS
    )
    world.barrier()  # no process may delete files that another still reads


def _begin_state(optimiser: torch.optim.Optimizer) -> None:
    """Gives each parameter that has none the state that AdamW gives it in its first step, in zeros.

    torch would make that step, with gradients of all parameters at once, a third of a process's share.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and parameter not in optimiser.state:
                optimiser.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device if group["fused"] else "cpu"),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }


def read_beside(store: Store, name: str, *, step: int, world: World) -> bytes | None:
    """Returns the file `name` that was saved with a committed checkpoint, or None if there is none.

    All processes must call it.
    """
    key = _CHECKPOINTS.beside(step, name)
    return store.read(key) if world.from_first(store.exists(key)) else None


def commits(store: Store) -> list[Commit]:
    """Returns the commits of all valid checkpoints, in ascending order of their steps."""
    keys = [key for key in store.keys(_CHECKPOINTS.prefix) if _CHECKPOINTS.is_commit(key)]
    return sorted((read_stored(store, key, Commit) for key in keys), key=lambda commit: commit.step)


def best(found: list[Commit]) -> Commit | None:
    """Returns the checkpoint with the lowest score, the earliest if several share it; None if none has a
    score.
    """
    scored = [commit for commit in found if commit.score is not None]
    return min(scored, key=lambda commit: (commit.score, commit.step), default=None)


def _state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the tensors to save; the optimiser's settings are in the configuration."""
    everything: Mapping[str, Any] = get_model_state_dict(model, options=_OPTIONS)
    named = model.named_parameters(remove_duplicate=False)  # tied ones are left in under their second name
    frozen = {name for name, parameter in named if not parameter.requires_grad}
    return {
        "model": {name: value for name, value in everything.items() if name not in frozen},
        "optimiser": {"state": get_optimizer_state_dict(model, optimiser, options=_OPTIONS)["state"]},
    }


def _upload_folder(store: Store, folder: Path, step: int) -> None:
    """Uploads every file, with retries, so that a short outage of the store does not end the run."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for attempt in Retrying(
                retry=retry_if_exception_type(StorageError),
                stop=stop_after_attempt(NUM_ATTEMPTS),
                wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_S),
                reraise=True,
            ):
                with attempt:
                    store.put_file(_CHECKPOINTS.beside(step, path.relative_to(folder).as_posix()), path)


def _delete_old(store: Store, num_kept: int) -> None:
    found = commits(store)
    kept = {commit.step for commit in [*found[-num_kept:], best(found)] if commit is not None}
    for step in [commit.step for commit in found if commit.step not in kept]:
        key = _CHECKPOINTS.step(step)
        store.delete(_CHECKPOINTS.commit(step))  # first, since without it the rest is ignored
        for name in list(store.keys(key)):
            store.delete(name)
