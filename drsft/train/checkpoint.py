"""Checkpoints in the run's store: every process writes its own files, and a commit object, written last,
alone makes them valid.

Layout under a job's prefix:
    checkpoints/step-000100/.metadata, __0_0.distcp, …   torch.distributed.checkpoint
    checkpoints/step-000100/commit.json                  {"step": 100, "num_workers": 2}

The learning rate, the order of the rows and the random numbers are functions of the step, so weights and
optimiser are all the state there is.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import save as save_state

from drsft.storage import Store, download_folder, upload_folder
from drsft.train.world import World

__all__ = ["committed_steps", "load_latest", "save"]

FOLDER = "checkpoints"
COMMIT = "commit.json"
NUM_KEPT = 2


def save(
    store: Store, model: nn.Module, optimiser: torch.optim.Optimizer, *, step: int, world: World
) -> None:
    """Commits the state after `step` steps and deletes all but the last two. All processes call it."""
    key = _key(step)
    with TemporaryDirectory(prefix="drsft-checkpoint-") as folder:
        # Each process has its own folder, as on several machines; the first one's holds the metadata.
        writer = FileSystemWriter(folder, sync_files=False)
        save_state(_state(model, optimiser), storage_writer=writer, no_dist=world.size == 1)
        upload_folder(store, Path(folder), key)
    world.barrier()
    if world.is_first:
        commit = {"step": step, "num_workers": world.size}
        store.create(f"{key}/{COMMIT}", json.dumps(commit).encode())
        _delete_old(store)


def load_latest(store: Store, model: nn.Module, optimiser: torch.optim.Optimizer, *, world: World) -> int:
    """Loads the newest committed state and returns its step; 0, with nothing changed, when there is none.

    The number of processes may differ from that of the process group that wrote it.
    """
    step = world.from_first(max(committed_steps(store), default=0) if world.is_first else 0)
    if step == 0:
        return 0
    with TemporaryDirectory(prefix="drsft-checkpoint-") as folder:
        download_folder(store, _key(step), Path(folder))
        state = _state(model, optimiser)
        load_state(state, storage_reader=FileSystemReader(folder), no_dist=world.size == 1)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimiser, state["optimiser"])
    world.barrier()  # nobody may delete what another still reads
    return step


def committed_steps(store: Store) -> list[int]:
    """In ascending order."""
    folders = [key.split("/")[1] for key in store.keys(FOLDER) if key.endswith(f"/{COMMIT}")]
    return sorted(int(folder.removeprefix("step-")) for folder in folders)


def _key(step: int) -> str:
    return f"{FOLDER}/step-{step:06d}"


def _state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "model": get_model_state_dict(model),
        "optimiser": get_optimizer_state_dict(model, optimiser),
    }


def _delete_old(store: Store) -> None:
    for step in committed_steps(store)[:-NUM_KEPT]:
        key = _key(step)
        store.delete(f"{key}/{COMMIT}")  # first: without it the rest counts for nothing
        for name in list(store.keys(key)):
            store.delete(name)
