"""Heads of transformers' models: what happens to their logits is found, or the model is refused."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    PhiConfig,
    Qwen2Config,
)

from drsft.errors import ModelError
from drsft.objectives.head import HeadShape, head_of, head_shape

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
    "cohere, multiplied": (CohereConfig(**SMALL, logit_scale=0.25), HeadShape(scale=0.25)),
    "granite, divided": (GraniteConfig(**SMALL, logits_scaling=4.0), HeadShape(scale=0.25)),
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
        hidden_TD = causal_lm.base_model(ids, use_cache=False).last_hidden_state[0]
        found_TV = head_of(causal_lm).logits(hidden_TD)
        torch.testing.assert_close(found_TV, causal_lm(ids, use_cache=False).logits[0], rtol=1e-5, atol=1e-5)


def test_a_model_that_does_more_to_its_logits_is_refused() -> None:
    causal_lm = model_of(MODELS["llama, untied"][0])
    head = causal_lm.lm_head
    causal_lm.lm_head.register_forward_hook(lambda module, args, logits: logits + 0.3 * logits.square())
    assert head is causal_lm.get_output_embeddings()
    with pytest.raises(ModelError, match="LlamaForCausalLM is not supported"):
        head_shape(causal_lm)


def test_an_adapter_on_the_head_is_refused() -> None:
    causal_lm = model_of(MODELS["llama, untied"][0])
    causal_lm.lm_head.base_layer = torch.nn.Identity()
    with pytest.raises(ModelError, match="adapter"):
        head_shape(causal_lm)
