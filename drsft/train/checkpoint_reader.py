"""Reads torch.distributed.checkpoint's files without running what a pickle in them asks for.

Whoever may write to the bucket could otherwise run code in every training worker: torch unpickles the
checkpoint's index, and everything in it that is no tensor. The index is read with an allow-list of its own
few classes (Python's documentation, "Restricting Globals"); anything but tensors is refused. Tensors are read
by torch with weights_only.
"""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load as load_state

from drsft.errors import StorageError

__all__ = ["load_tensors"]

_METADATA = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    *((_METADATA, name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties")),
    *((_METADATA, name) for name in ("TensorStorageMetadata", "BytesStorageMetadata")),
    *((_METADATA, name) for name in ("ChunkStorageMetadata", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),  # where the writer had it
}


def load_tensors(state: dict[str, Any], folder: Path, *, is_alone: bool) -> None:
    """Fills the tensors of `state` from a checkpoint; its other values stay. Raises StorageError.

    `is_alone`: in one process, without a process group; otherwise all processes call it.
    """
    try:
        load_state(state, storage_reader=_Reader(folder), planner=_TensorsOnly(), no_dist=is_alone)
    except CheckpointException as error:
        reasons = [cause for cause, _ in error.failures.values()] or [error]
        reason = (str(reasons[0]).strip().splitlines() or [type(reasons[0]).__name__])[0][:300]
        raise StorageError(f"the checkpoint cannot be read: {reason}; remove it to go on without") from error


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"its index asks for {module}.{name}, which no checkpoint of ours does")


class _Reader(FileSystemReader):
    _refused: Exception | None = None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """torch asks again for an index of the process alone, which is not ours: the first refusal stands."""
        if self._refused is not None:
            raise self._refused
        try:
            return self._index(kwargs.get("rank"))
        except Exception as error:  # a damaged pickle may raise anything
            self._refused = error
            raise

    def _index(self, rank: int | None) -> Metadata:
        with self.fs.create_stream(self._get_metadata_path(rank), "rb") as file:
            metadata = _Index(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError("its index is none")
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _TensorsOnly(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is no tensor")
