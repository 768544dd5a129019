"""Reads from the headers of safetensors files how many rows a model's embedding and output layer have."""

import json
from collections.abc import Iterator
from pathlib import Path

__all__ = ["rows_in_weights"]

# How models name their embedding and their head; a wrapper's name may stand before.
_TABLES = (
    "embed_tokens.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "embed_out.weight",
    "wte.weight",
    "lm_head.weight",
    "output.weight",
)
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def rows_in_weights(location: str) -> int | None:
    """Returns the number of rows of a model's embedding or output layer, whichever has fewer; None if no
    readable safetensors file contains either.

    For a model on the hub, only files that are already downloaded are read.
    """
    rows = [number for file, names in _files(location) for number in _rows(file, names)]
    return min(rows, default=None)


def _files(location: str) -> Iterator[tuple[Path, set[str] | None]]:
    """Yields the files with an embedding or a head, and the names to look at (None: all of them)."""
    index = _file(location, _INDEX)
    if index is None:
        whole = _file(location, _WHOLE)
        if whole is not None:
            yield whole, None
        return
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
        wanted = [(str(shard), str(name)) for name, shard in places if _is_table(str(name))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # loading the model will raise an error with the reason
    for shard in sorted({shard for shard, _ in wanted}):
        file = _file(location, shard)
        if file is not None:
            yield file, {name for one, name in wanted if one == shard}


def _rows(file: Path, names: set[str] | None) -> Iterator[int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118 - no mapping
                if _is_table(name) and (names is None or name in names):
                    shape = weights.get_slice(name).get_shape()
                    if len(shape) == 2:
                        yield int(shape[0])
    except (OSError, SafetensorError):
        return


def _is_table(name: str) -> bool:
    """Returns whether a tensor is an embedding or a head.

    Tensors in layers are not, even if called `output`.
    """
    parts = name.split(".")
    return ".".join(parts[-2:]) in _TABLES and "layers" not in parts and "layer" not in parts


def _file(location: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    try:
        found = cached_file(location, name, local_files_only=True)
    except Exception:  # any of several errors means that the file does not exist
        return None
    return None if found is None else Path(found)
