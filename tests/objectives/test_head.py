"""Heads of transformers' models: what happens to their logits is found, or the model is refused."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    InklingTextConfig,
    Llama4TextConfig,
    LlamaConfig,
    PhiConfig,
    Qwen2Config,
    RecurrentGemmaConfig,
    RemBertConfig,
)

from drsft.errors import ModelError
from drsft.objectives.head import HeadShape, body_of, head_of, head_shape

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
MODELS = {
    "qwen2, tied": (Qwen2Config(**SMALL, tie_word_embeddings=True), HeadShape()),
    "llama, untied": (LlamaConfig(**SMALL, tie_word_embeddings=False), HeadShape()),
    "gemma2, soft cap": (
        Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0, initializer_range=0.5),
        HeadShape(softcap=2.0),
    ),
    "recurrent gemma, soft cap of another name": (
        RecurrentGemmaConfig(
            **SMALL, logits_soft_cap=2.0, initializer_range=0.5, w_init_variance_scale=4.0, head_dim=8
        ),
        HeadShape(softcap=2.0),
    ),
    "cohere, multiplied": (CohereConfig(**SMALL, logit_scale=0.25), HeadShape(scale=0.25)),
    "granite, divided": (GraniteConfig(**SMALL, logits_scaling=4.0), HeadShape(scale=0.25)),
    "llama 4, a part of a larger model": (
        Llama4TextConfig(**SMALL, head_dim=8, intermediate_size_mlp=24, num_local_experts=2),
        HeadShape(),
    ),
    "phi, bias": (PhiConfig(**{**SMALL, "num_key_value_heads": 2}), HeadShape()),
}


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(config)
    if getattr(causal_lm.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(causal_lm.get_output_embeddings().bias)
    return causal_lm.train()


@pytest.mark.parametrize("name", MODELS)
def test_the_head_reproduces_the_models_logits(name: str) -> None:
    config, shape = MODELS[name]
    causal_lm = model_of(config)
    assert head_shape(causal_lm) == shape
    assert causal_lm.training, "it is left as it was"
    ids = torch.randint(2, 40, (1, 9))
    with torch.no_grad():
        hidden_TD = body_of(causal_lm)(ids, use_cache=False).last_hidden_state[0]
        found_TV = head_of(causal_lm).logits(hidden_TD)
        torch.testing.assert_close(found_TV, causal_lm(ids, use_cache=False).logits[0], rtol=1e-5, atol=1e-5)


def test_a_model_that_does_more_to_its_logits_is_refused() -> None:
    causal_lm = model_of(MODELS["llama, untied"][0])
    head = causal_lm.lm_head
    causal_lm.lm_head.register_forward_hook(lambda module, args, logits: logits + 0.3 * logits.square())
    assert head is causal_lm.get_output_embeddings()
    with pytest.raises(ModelError, match="LlamaForCausalLM is not supported"):
        head_shape(causal_lm)


def test_a_head_of_another_width_is_refused() -> None:
    causal_lm = model_of(RemBertConfig(**SMALL, output_embedding_size=32, is_decoder=True))
    with pytest.raises(ModelError, match="RemBertForCausalLM is not supported"):
        head_shape(causal_lm)


def test_a_head_with_more_rows_than_there_are_logits_is_refused() -> None:
    config = InklingTextConfig(
        **SMALL,
        unpadded_vocab_size=37,
        head_dim=8,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
    )
    with pytest.raises(ModelError, match="InklingForCausalLM is not supported"):
        head_shape(model_of(config))


def test_an_adapter_on_the_head_is_refused() -> None:
    causal_lm = model_of(MODELS["llama, untied"][0])
    causal_lm.lm_head.base_layer = torch.nn.Identity()
    with pytest.raises(ModelError, match="adapter"):
        head_shape(causal_lm)
