"""Random model folders with the embedded tokenizer and as many embedding rows as a test wants."""

import shutil
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.policy.prompts import model_location

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def save_random_model(folder: Path, *, num_embeddings: int) -> str:
    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=num_embeddings,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(Path(model_location("embedded")) / name, folder)
    return str(folder)
