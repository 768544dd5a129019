"""Exports the trained model to the store as a Hugging Face folder, which transformers and vLLM can load."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import GenerationConfig

from drsft.config import Lora
from drsft.errors import ModelError
from drsft.run.layout import TRAINING
from drsft.storage import Store, upload_folder
from drsft.train.lora import adapter_config, adapter_weights, merged_weights
from drsft.train.model import ScoringModel
from drsft.train.world import World

__all__ = ["Export", "export_model", "model_folder"]

MAX_SHARD_SIZE = "5GB"
GENERATION_CONFIG = "generation_config.json"

# What surrounds the weights, copied byte for byte: loading and saving a tokenizer may rewrite it.
_COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    GENERATION_CONFIG,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What an exported folder contains or depends on besides the weights."""

    target: str  # the model that training began with: a folder or a hub name
    dtype: torch.dtype
    end_of_turn_id: int | None = None  # added to the stop tokens
    card: str = ""
    lora: Lora | None = None
    chat_template: str | None = None  # in place of the target's own


def model_folder(location: str) -> Path:
    """Returns a folder with the model's tokenizer, chat template and generation settings.

    It is `location` if that is a folder, else a download of these files, without weights, by hub name. Raises
    ModelError if they cannot be downloaded.
    """
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(location, allow_patterns=list(_COMPANIONS)))
    except Exception as error:  # the hub raises errors of many libraries
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"target.model {location!r}: cannot be fetched: {reason}") from error


def export_model(store: Store, model: ScoringModel, export: Export, *, world: World) -> None:
    """Writes the model, with adapters merged into it, to `export/`, and the adapters alone to `adapter/`.

    All processes must call it, since the weights are gathered by a collective; the first one writes.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)  # empty but on the first process
    if not world.is_first:
        return
    weights: dict[str, Tensor] = {name.removeprefix("causal_lm."): tensor for name, tensor in state.items()}
    with TemporaryDirectory(prefix="drsft-export-") as name:
        folder = Path(name)
        if export.lora is not None:
            _save_adapter(store, folder / TRAINING.adapter, weights, export.lora, export.target)
            weights = merged_weights(model.causal_lm, weights, export.lora)
        _save_model(folder / TRAINING.export, model.causal_lm, weights, export)
        upload_folder(store, folder / TRAINING.export, TRAINING.export)


def _save_model(folder: Path, causal_lm: Any, weights: Mapping[str, Tensor], export: Export) -> None:
    # save_pretrained refuses generation settings that it finds inconsistent, though the target has them.
    settings, causal_lm.generation_config = causal_lm.generation_config, GenerationConfig()
    causal_lm.save_pretrained(
        folder, state_dict=_untied(causal_lm, weights, export.dtype), max_shard_size=MAX_SHARD_SIZE
    )
    causal_lm.generation_config = settings
    settings.to_json_file(folder / GENERATION_CONFIG)
    causal_lm.config.dtype = export.dtype  # save_pretrained wrote that of the master weights
    causal_lm.config.save_pretrained(folder)
    for pattern in _COMPANIONS:
        for path in model_folder(export.target).glob(pattern):
            shutil.copyfile(path, folder / path.name)
    if export.chat_template is not None:
        (folder / "chat_template.jinja").write_text(export.chat_template, encoding="utf-8")
    _add_stop_token(folder / GENERATION_CONFIG, export.end_of_turn_id)
    if export.card:
        (folder / "README.md").write_text(export.card)


def _add_stop_token(path: Path, end_of_turn_id: int | None) -> None:
    """Adds the chat template's end of turn to the stop tokens, beside a base model's own."""
    settings = json.loads(path.read_text()) if path.exists() else {}
    stops = settings.get("eos_token_id")
    known = stops if isinstance(stops, list) else [] if stops is None else [stops]
    if end_of_turn_id is not None and end_of_turn_id not in known:
        settings["eos_token_id"] = [end_of_turn_id, *known]
        path.write_text(json.dumps(settings, indent=2) + "\n")


def _save_adapter(store: Store, folder: Path, weights: Mapping[str, Tensor], lora: Lora, target: str) -> None:
    folder.mkdir()
    save_file(adapter_weights(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapter_config(lora, target).save_pretrained(folder)
    upload_folder(store, folder, TRAINING.adapter)


def _untied(causal_lm: Any, weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the weights without tied ones, which are restored on loading."""
    tied = set(causal_lm.all_tied_weights_keys or ())
    return {name: tensor.to(dtype).contiguous() for name, tensor in weights.items() if name not in tied}
