"""Reads torch.distributed.checkpoint's files from a store without running code; each process reads its own
part.

With torch's own reader, anybody who can write to the bucket could run code in every training worker: it
unpickles the checkpoint's index, and everything in it that is not a tensor. Here the index is unpickled with
an allow-list of its few classes (Python's documentation, "Restricting Globals"), everything but tensors is
rejected, and torch reads tensors with weights_only.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from operator import add
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from drsft.errors import StorageError
from drsft.storage import Store

__all__ = ["load_tensors"]

_INDEX_KEY = ".metadata"  # where torch's FileSystemWriter puts it
RANGE_BYTES = 4 << 20  # of one read of small tensors
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


def load_tensors(state: dict[str, Any], store: Store, *, is_alone: bool) -> None:
    """Fills the tensors in `state` from a checkpoint's store; other values in `state` do not change.

    A process reads the index and the byte ranges of its own part of `state`. With `is_alone` there is one
    process and no process group; otherwise all processes must call it. Raises StorageError if the checkpoint
    cannot be read.
    """
    try:
        load_state(state, storage_reader=_Reader(store), planner=_TensorsOnly(), no_dist=is_alone)
    except CheckpointException as error:
        reasons = [cause for cause, _ in error.failures.values()] or [error]
        if isinstance(reasons[0], StorageError):
            raise reasons[0] from error
        reason = (str(reasons[0]).strip().splitlines() or [type(reasons[0]).__name__])[0][:300]
        raise StorageError(
            f"the checkpoint cannot be read: {reason}; remove it to continue without it"
        ) from error


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise pickle.UnpicklingError(
            f"its index asks for {module}.{name}, which no checkpoint of drsft contains"
        )


class _Reader(StorageReader):
    """Reads a checkpoint from a store instead of a folder; torch calls it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: Exception | None = None
        self._places: Mapping[MetadataIndex, Any] = {}  # to _StorageInfo: file, offset, length

    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Returns the index.

        torch may later ask for the index of this process alone, so the first error is raised again.
        """
        if self._refused is not None:
            raise self._refused
        try:
            return self._index()
        except Exception as error:  # a damaged pickle may raise anything
            self._refused = error
            raise

    def _index(self) -> Metadata:
        metadata = _Index(BytesIO(self._store.read(_INDEX_KEY))).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError("its index is not that of a checkpoint")
        return metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        self._places = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for key, items in self._ranges(plan.items):
            start, end = self._span(items[0])[0], self._span(items[-1])[1]
            data = self._store.read_range(key, start=start, length=end - start)
            for item in items:
                first, last = self._span(item)  # of a whole range BytesIO makes no copy, nor does the slice
                _read_item(item, BytesIO(data[first - start : last - start]), planner)
            del data  # before the next range is there
        done = Future[None]()
        done.set_result(None)
        return done

    def _ranges(self, items: Sequence[ReadItem]) -> Iterator[tuple[str, list[ReadItem]]]:
        """Yields files that each hold adjacent items, so that one request reads them."""
        group: list[ReadItem] = []
        for item in sorted(items, key=lambda item: (self._file(item), self._span(item))):
            if group and not self._is_next(group, item):
                yield self._file(group[0]), group
                group = []
            group.append(item)
        if group:
            yield self._file(group[0]), group

    def _is_next(self, group: Sequence[ReadItem], item: ReadItem) -> bool:
        first, end = self._span(group[0])[0], self._span(item)[1]
        follows = self._span(item)[0] in {self._span(group[-1])[1], self._span(group[-1])[0]}
        return self._file(item) == self._file(group[0]) and follows and end - first <= RANGE_BYTES

    def _file(self, item: ReadItem) -> str:
        return str(self._places[item.storage_index].relative_path)

    def _span(self, item: ReadItem) -> tuple[int, int]:
        place = self._places[item.storage_index]
        return place.offset, place.offset + place.length


def _read_item(item: ReadItem, data: BytesIO, planner: LoadPlanner) -> None:
    if item.type is LoadItemType.BYTE_IO:
        planner.load_bytes(item, data)
        return
    whole = torch.load(data, map_location="cpu", weights_only=True)
    part = whole[tuple(map(slice, item.storage_offsets, map(add, item.storage_offsets, item.lengths)))]
    target = planner.resolve_tensor(item).detach()
    if target.shape != part.shape:
        raise ValueError(
            f"{item.dest_index.fqn} has shape {tuple(part.shape)}, but the model's has {tuple(target.shape)}"
        )
    target.copy_(part)
    planner.commit_tensor(item, target)


class _TensorsOnly(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is not a tensor")
