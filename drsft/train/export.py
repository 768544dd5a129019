"""The trained model as a Hugging Face folder in the store, which transformers and vLLM load as it stands."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from drsft.errors import ModelError
from drsft.storage import Store, upload_folder
from drsft.train.model import ScoringModel
from drsft.train.world import World

__all__ = ["EXPORT_FOLDER", "export_model", "model_folder"]

EXPORT_FOLDER = "export"

# What surrounds the weights, copied byte for byte: loading and saving a tokenizer may rewrite it.
_COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "generation_config.json",  # holds every stop token
)


def model_folder(location: str) -> Path:
    """The folder of a model, fetched from the hub when `location` is a name there. Raises ModelError."""
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(location, allow_patterns=list(_COMPANIONS)))
    except Exception as error:  # the hub raises errors of many libraries
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"target.model {location!r}: cannot be fetched: {reason}") from error


def export_model(store: Store, model: ScoringModel, *, target: str, dtype: torch.dtype, world: World) -> None:
    """Writes the whole model in `dtype` under `export/`, with the tokenizer and stop tokens of `target`.

    All processes call it, since gathering is a collective; the first one writes.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)  # empty but on the first process
    if not world.is_first:
        return
    causal_lm = model.causal_lm
    with TemporaryDirectory(prefix="drsft-export-") as name:
        folder = Path(name)
        causal_lm.save_pretrained(folder, state_dict=_weights(causal_lm, state, dtype))
        causal_lm.config.dtype = dtype  # save_pretrained wrote that of the master weights
        causal_lm.config.save_pretrained(folder)
        for pattern in _COMPANIONS:
            for path in model_folder(target).glob(pattern):
                shutil.copyfile(path, folder / path.name)
        upload_folder(store, folder, EXPORT_FOLDER)


def _weights(causal_lm: Any, state: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """By the names that the model itself uses, without what is tied: it is made again when loaded."""
    named = {name.removeprefix("causal_lm."): tensor for name, tensor in state.items()}
    tied = set(causal_lm.all_tied_weights_keys or ())
    return {name: tensor.to(dtype).contiguous() for name, tensor in named.items() if name not in tied}
