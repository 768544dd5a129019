"""Moves a model's weights from its files to the devices of a training, without a whole copy in any process.

transformers memory-maps weights if it loads them in their stored precision: they take no memory until they
are read, and then only in the system's file cache. Each process reads its own shard of a weight, converts it
and puts it on its device.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.utils import cached_file

__all__ = ["give_weights", "stored_dtype", "take_weights"]

_NAMES = ("model.safetensors", "model.safetensors.index.json")
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}


def stored_dtype(location: str) -> torch.dtype:
    """Returns the dtype of all weights of a folder or hub name; fp32 if they differ or none are found."""
    found = {name for path in _files(location) for name in _dtypes_in(path)}
    return _DTYPES.get(found.pop(), torch.float32) if len(found) == 1 else torch.float32


def _files(location: str) -> list[Path]:
    whole, index = (_file(location, name) for name in _NAMES)
    if whole is not None:
        return [whole]
    names = set(json.loads(index.read_text())["weight_map"].values()) if index is not None else set()
    return [path for name in names if (path := _file(location, name)) is not None]


def _file(location: str, name: str) -> Path | None:
    try:
        found = cached_file(location, name)
    except OSError:  # transformers' own for a file that is not there
        return None
    return Path(found) if found is not None else None


def _dtypes_in(path: Path) -> Iterator[str]:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no dict
            yield file.get_slice(name).get_dtype()


def take_weights(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the model's weights by name, and leaves empty ones of `dtype` on the meta device, tied as
    before.
    """
    weights, empty = dict[str, Tensor](), dict[int, nn.Parameter]()
    for prefix, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            weights[f"{prefix}.{name}" if prefix else name] = weight.detach()
            if id(weight) not in empty:
                blank = torch.empty_like(weight, dtype=dtype, device="meta")
                empty[id(weight)] = nn.Parameter(blank, requires_grad=weight.requires_grad)
            setattr(module, name, empty[id(weight)])
    return weights


def give_weights(model: nn.Module, weights: dict[str, Tensor], device: torch.device) -> None:
    """Fills the parameters that `take_weights` emptied, also after `shard` has split them.

    It empties `weights`.
    """
    filled, by_name = dict[int, nn.Parameter](), dict[str, nn.Parameter]()
    for name, place in model.named_parameters(remove_duplicate=False):
        weight = weights.pop(name)
        if id(place) not in filled:
            filled[id(place)] = nn.Parameter(_part(weight, place, device), requires_grad=place.requires_grad)
        by_name[name] = filled[id(place)]
    model.load_state_dict(by_name, strict=False, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _part(weight: Tensor, place: Tensor, device: torch.device) -> Tensor:
    if not isinstance(place, DTensor):
        return weight.to(device=device, dtype=place.dtype, copy=True)
    shards = place.device_mesh.ndim - 1  # the last axis; over the one before it the shards are copied
    ranks, rank = place.device_mesh.size(shards), place.device_mesh.get_local_rank(shards)
    rows = -(-len(weight) // ranks)  # as torch.chunk splits
    part = weight[rank * rows : (rank + 1) * rows].to(device=device, dtype=place.dtype, copy=True)
    return DTensor.from_local(
        part, place.device_mesh, place.placements, run_check=False, shape=place.shape, stride=place.stride()
    )
