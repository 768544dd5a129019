"""The processes that train together, and the collectives that they use."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from drsft.errors import DrsftError

__all__ = ["World", "copy_to"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process's place among the `size` processes that train together.

    Without a process group it is alone, and every collective returns its input.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    copies: DeviceMesh | None = None  # copies × shards of each, if the state has several copies

    @classmethod
    def current(cls, device: torch.device | None = None) -> "World":
        """Returns the world of the default process group; if there is no group, of this one process."""
        device = device or torch.device("cpu")
        if not dist.is_initialized():
            return cls(device=device)
        return cls(rank=dist.get_rank(), size=dist.get_world_size(), device=device)

    def in_copies(self, num_shards: int) -> "World":
        """Returns this world with a copy of the training's state for each `num_shards` consecutive processes,
        which share it; all processes call it.
        """
        if num_shards == self.size:
            return self
        shape = (self.size // num_shards, num_shards)
        copies = init_device_mesh(self.device.type, shape, mesh_dim_names=("copy", "shard"))
        return replace(self, copies=copies)

    @property
    def mesh(self) -> DeviceMesh:
        """The device mesh for FSDP, which shards the training's state over the last axis.

        If there are two axes, each index of the first one has a copy of the whole state.
        """
        return self.copies if self.copies is not None else init_device_mesh(self.device.type, (self.size,))

    @property
    def num_copies(self) -> int:
        return 1 if self.copies is None else self.copies.size(0)

    def ensure_process_group(self) -> None:
        """Starts a process group with this process as its only member if there is no group yet.

        FSDP needs a group, also if it is used for mixed precision only and shards nothing.
        """
        if not dist.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=0, world_size=1)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def global_sum(self, values: Tensor) -> Tensor:
        """Sums `values` over all processes in place and returns them; they must be on the world's device."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, value: T) -> T:
        """Returns the first process's `value` on all processes; the values of the others are ignored."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def first_does(self, work: Callable[[], T]) -> T:
        """Calls `work` on the first process only, and returns its result on all processes.

        If it raises a DrsftError, all processes raise it.
        """
        found: T | DrsftError | None = None
        if self.is_first:
            try:
                found = work()
            except DrsftError as error:
                found = error
        found = self.from_first(found)
        if isinstance(found, DrsftError):
            raise found
        return cast(T, found)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def copy_to(device: torch.device, values: Tensor) -> Tensor:
    """Returns the tensor copied to the device; the CPU does not wait for a copy to a GPU."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
