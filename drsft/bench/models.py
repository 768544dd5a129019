"""The models of the benches: random weights that keep a CPU's engine busy, the tiny model, or any folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drsft.errors import ConfigError
from drsft.policy.prompts import model_location

__all__ = ["EMBEDDED", "RANDOM", "ModelUse", "bench_model"]

RANDOM, EMBEDDED = "random", "embedded"
FOLDER_MAX_TOKENS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    location: str  # as `target.model`
    dtype: str  # as `target.dtype`
    max_tokens: int  # of a sample
    num_threads: int  # of its engine

    @property
    def target(self) -> dict[str, Any]:
        """The keys of the section `target` that depend on the model."""
        return {"model": self.location, "dtype": self.dtype}


def bench_model(model: str, folder: Path) -> ModelUse:
    """Returns how to use the model "random" (28M parameters, written below `folder`), "embedded" or a folder.

    A folder is used in the precision of its weights. The tiny embedded model gets one thread, since it is
    slower with two. Raises ConfigError if there is no such model.
    """
    if model == EMBEDDED:
        return ModelUse(location=EMBEDDED, dtype="float32", max_tokens=128, num_threads=1)
    if model == RANDOM:
        _make_random_model(folder / "random-28m")
        return ModelUse(location=f"{folder}/random-28m", dtype="float32", max_tokens=48, num_threads=2)
    return ModelUse(
        location=str(Path(model).absolute()),  # benches start processes in folders of their own
        dtype=_dtype_of(Path(model)),
        max_tokens=FOLDER_MAX_TOKENS,
        num_threads=2,
    )


def _dtype_of(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--model {folder} has no readable config.json; give {RANDOM}, {EMBEDDED} or a model's folder"
        ) from error
    stored = config.get("dtype") or config.get("torch_dtype")
    return "bfloat16" if stored in ("bfloat16", "float16") else "float32"


def _make_random_model(folder: Path) -> None:
    """Writes a model of 28M random parameters with the embedded tokenizer.

    It is made so that it never ends a turn: every sample then has the maximal length.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_location("embedded"))
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
