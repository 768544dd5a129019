"""Rows under a model as it is: the same however they are batched, and twice the same."""

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    FalconConfig,
    GPT2Config,
    OPTConfig,
    PersimmonConfig,
    PhimoeConfig,
    Qwen2Config,
    XGLMConfig,
)

from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import PackedRows
from drsft.train.scores import score
from drsft.train.world import World
from tests.support.train import VOCAB, make_rows, save_tiny_model, scored

NUM_EXAMPLES = 14


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=False)


def test_scores_are_the_same_however_the_rows_are_batched(location: str) -> None:
    rows, model = make_rows(NUM_EXAMPLES), ScoringModel(load_model(location))
    everything = range(len(rows))
    one, all_at_once = (
        score(model, rows, everything, micro_batch_rows=size, world=World()) for size in (1, 64)
    )
    torch.testing.assert_close(one.logprobs_T, all_at_once.logprobs_T, rtol=0, atol=1e-5)
    scored_T = one.logprobs_T != 0
    assert torch.equal(scored_T, torch.from_numpy(rows.loss_mask_T)), "of all rows, K are all tokens"


def test_some_rows_are_scored_into_what_they_hold(location: str) -> None:
    rows, model = make_rows(NUM_EXAMPLES), ScoringModel(load_model(location))
    some = score(model, rows, [4, 1, 2], micro_batch_rows=2, world=World())
    assert len(some.logprobs_T) == rows.num_tokens([4, 1, 2]) < len(rows.input_ids_T)
    alone = {
        row: scored(model, rows_of_one(rows, row)) for row in (1, 2, 4)
    }  # the definition: a row by itself
    for wanted in ([1], [4, 1], [2, 1, 4]):
        want = torch.cat([alone[row] for row in wanted])
        torch.testing.assert_close(some.of(rows, wanted), want, rtol=0, atol=1e-5)
    assert some.of(rows, []).shape == (0,)


def rows_of_one(rows: PackedRows, row: int) -> PackedRows:
    table = rows.to_table()
    return PackedRows.from_table(table.slice(row, 1).combine_chunks())


SMALL = {
    "vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
    "max_position_embeddings": 64, "dropout": 0.3, "attention_dropout": 0.3,
}  # fmt: skip
DRAWING = {  # models that keep their shares as modules, as plain numbers, in their configuration
    "qwen2": Qwen2Config(**{**SMALL, "num_key_value_heads": 2, "intermediate_size": 24}),
    "gpt2": GPT2Config(**SMALL, embd_pdrop=0.3, resid_pdrop=0.3, attn_pdrop=0.3),
    "opt": OPTConfig(**SMALL, ffn_dim=24, word_embed_proj_dim=16, layerdrop=0.3),
    "xglm": XGLMConfig(
        vocab_size=VOCAB, d_model=16, ffn_dim=24, num_layers=4, attention_heads=2, layerdrop=0.3
    ),
    "biogpt": BioGptConfig(
        **{**SMALL, "intermediate_size": 24}, hidden_dropout_prob=0.3, activation_dropout=0.3, layerdrop=0.3
    ),
    "falcon": FalconConfig(**SMALL, hidden_dropout=0.3, parallel_attn=False),
    "persimmon": PersimmonConfig(**{**SMALL, "intermediate_size": 24}, hidden_dropout=0.3),
    "phimoe, noise of a router": PhimoeConfig(
        **{**SMALL, "num_key_value_heads": 2, "intermediate_size": 24}, input_jitter_noise=0.3
    ),
}


@pytest.mark.parametrize("activation_checkpointing", [False, True])
@pytest.mark.parametrize("name", DRAWING)
def test_nothing_is_drawn_where_two_passes_are_compared(name: str, activation_checkpointing: bool) -> None:
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(DRAWING[name])
    rows = make_rows(NUM_EXAMPLES)

    def scores(model: ScoringModel) -> Tensor:
        return score(model, rows, range(len(rows)), micro_batch_rows=2, world=World()).logprobs_T

    model = ScoringModel(causal_lm, activation_checkpointing=activation_checkpointing).train()
    assert not torch.equal(scores(model), scores(model))
    configured = causal_lm.config.to_dict()
    model.draw_nothing()
    assert torch.equal(scores(model), scores(model))
    model.eval()
    assert torch.equal(scores(model), scores(model.train())), "nor after a look at held-out rows"
    assert causal_lm.config.to_dict() == configured, "which is exported"
