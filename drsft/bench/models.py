"""The two models of the benches: one for which the engine is the bottleneck on a CPU, and a tiny one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drsft.policy.prompts import model_location

__all__ = ["BenchModel", "ModelUse", "bench_model"]

BenchModel = Literal["random", "embedded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    location: str  # as `target.model`
    max_tokens: int  # of a sample
    num_threads: int  # of its engine


def bench_model(model: BenchModel, folder: Path) -> ModelUse:
    """Random weights of 28M parameters, written below `folder`; or the embedded model, for which two threads
    are slower than one."""
    if model == "embedded":
        return ModelUse(location="embedded", max_tokens=128, num_threads=1)
    _make_random_model(folder / "random-28m")
    return ModelUse(location=f"{folder}/random-28m", max_tokens=48, num_threads=2)


def _make_random_model(folder: Path) -> None:
    """28M parameters under the embedded model's tokenizer; it never finds the end of a turn on purpose."""
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
