"""A model and records small enough to train in milliseconds, and the slow definition of their gradient."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.config import Arm, Objective, Sft, Train
from drsft.objectives.loss import LossRequest
from drsft.train.encode import Example, encode
from drsft.train.job import Job, Target, Training
from drsft.train.model import ScoringModel
from drsft.train.pack import PackedRows, pack
from drsft.train.world import World

VOCAB, END_OF_TURN, SEQ_LEN = 61, 1, 32

_IDS = pa.list_(pa.int32())
RECORDS_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("source", pa.string()),
        ("prompt_ids", _IDS),
        ("completion_ids", _IDS),
        ("expert_completion_ids", _IDS),
    ]
)


def save_tiny_model(
    folder: Path, *, tied: bool = True, dropout: float = 0.0, hidden_size: int = 32, num_heads: int = 4
) -> str:
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=hidden_size,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=num_heads,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,  # sharp, so that weights differ from token to token
        tie_word_embeddings=tied,
        attention_dropout=dropout,
        bos_token_id=None,
        eos_token_id=END_OF_TURN,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = [END_OF_TURN, 2]
    model.save_pretrained(folder)
    return str(folder)


def make_records(num: int, *, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return [int(token) for token in generator.integers(3, VOCAB, generator.integers(low, high))]

    rows = [
        {
            "problem_id": f"problem-{index:03d}",
            "source": "own" if index % 3 else "rewritten",
            "prompt_ids": ids(2, 8),
            "completion_ids": [*ids(1, 14), END_OF_TURN],
            "expert_completion_ids": [*ids(1, 10), END_OF_TURN],
        }
        for index in range(num)
    ]
    return pa.Table.from_pylist(rows, schema=RECORDS_SCHEMA)


def make_examples(num: int, *, seed: int = 0) -> list[Example]:
    return encode(make_records(num, seed=seed), data="rewritten", seq_len=SEQ_LEN).examples


def make_rows(num: int, *, seed: int = 0) -> PackedRows:
    return pack(make_examples(num, seed=seed), seq_len=SEQ_LEN)


def make_training(
    location: str,
    rows: PackedRows,
    settings: Train,
    objective: Objective,
    *,
    seed: int = 0,
    compute_dtype: torch.dtype = torch.float32,
    world: World | None = None,
) -> Training:
    return Training(
        job=Job(arm=Arm(name="arm", objective=objective), seed=seed),
        settings=settings,
        target=Target(location=location, compute_dtype=compute_dtype),
        rows=rows,
        world=world or World(),
    )


def scored(model: ScoringModel, rows: PackedRows) -> torch.Tensor:
    """Log-probabilities of all loss tokens, in one forward."""
    documents = rows.documents(range(len(rows)))
    arrays = (documents.input_ids_T.astype("int64"), documents.position_ids_T, documents.loss_mask_T)
    request = LossRequest(num_loss_tokens=1, objective=Sft())
    with torch.no_grad():
        return model(*map(torch.from_numpy, arrays), documents.lengths, request).statistics.logprobs_N


def oracle_gradients(causal_lm: Any, examples: list[Example], *, is_dft: bool) -> dict[str, torch.Tensor]:
    """Example by example, unpacked, with all logits: the definition."""
    causal_lm.zero_grad()
    num_loss_tokens = sum(int(example.loss_mask_T.sum()) for example in examples)
    for example in examples:
        ids_T = torch.from_numpy(example.input_ids_T).long()
        logits_TV = causal_lm(ids_T[None], use_cache=False).logits[0, :-1]
        logp_T = torch.log_softmax(logits_TV, -1).gather(-1, ids_T[1:, None])[:, 0]
        weight_T = logp_T.detach().exp() if is_dft else torch.ones_like(logp_T)
        mask_T = torch.from_numpy(example.loss_mask_T)[1:]
        (-(weight_T * logp_T)[mask_T].sum() / num_loss_tokens).backward()
    return {name: p.grad.clone() for name, p in causal_lm.named_parameters() if p.grad is not None}
