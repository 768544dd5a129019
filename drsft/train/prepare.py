"""Prepares the models of a training on their devices, sharded over its processes."""

from functools import lru_cache, partial
from typing import Any

import torch

from drsft.records import stable_seed
from drsft.train.attention import use_document_attention
from drsft.train.attention_parity import check_attention
from drsft.train.compiled import compile_blocks
from drsft.train.job import Training
from drsft.train.lora import add_adapters
from drsft.train.model import ScoringModel, Traits, blocks_of, load_model, shard
from drsft.train.weights import give_weights, stored_dtype, take_weights

__all__ = ["prepare_model", "prepare_start"]


def prepare_model(training: Training) -> ScoringModel:
    """Returns the model to train on its devices, sharded over the processes, with weights in fp32.

    If the settings have `lora`, it has adapters.
    """
    settings = training.settings
    causal_lm, traits = _stored(training)
    if settings.lora is not None:
        add_adapters(causal_lm, settings.lora, seed=stable_seed(training.job.seed, "adapters"))
    model = ScoringModel(
        causal_lm.train(), activation_checkpointing=settings.activation_checkpointing, traits=traits
    )
    return _placed(model, training, torch.float32)


def prepare_start(training: Training) -> ScoringModel:
    """Returns the frozen starting model, sharded like the trained one.

    Its weights are in compute precision, since they are never updated; its buffers keep their precision, like
    the trained model's.
    """
    causal_lm, traits = _stored(training)
    model = ScoringModel(causal_lm, traits=traits).eval().requires_grad_(False)
    return _placed(model, training, training.target.compute_dtype)


def _stored(training: Training) -> tuple[Any, Traits]:
    """Returns the model before its weights are read, with the traits that the first process has found by a
    trial.
    """
    location = training.target.location
    traits = training.world.first_does(partial(_traits, location))
    causal_lm = load_model(location, dtype=stored_dtype(location))
    if traits.attends_by_document:
        use_document_attention(causal_lm)
        device, dtype = training.world.device, training.target.compute_dtype
        if device.type == "cuda" and dtype != torch.float32:  # otherwise the trial has already run it
            check_attention(traits.attention, device, dtype, model=location)
    for name, buffer in traits.buffers.items():  # computed in fp32, whatever the weights are stored in
        owner, _, leaf = name.rpartition(".")
        setattr(causal_lm.get_submodule(owner), leaf, buffer.clone())
    return causal_lm, traits


@lru_cache(maxsize=1)  # shared by all arms and seeds
def _traits(location: str) -> Traits:
    return Traits.of(load_model(location))


def _placed(model: ScoringModel, training: Training, dtype: torch.dtype) -> ScoringModel:
    """Returns the model, sharded over the workers; a single worker in fp32 keeps it whole."""
    world, compute_dtype = training.world, training.target.compute_dtype
    if training.settings.compile:
        compile_blocks(blocks_of(model.causal_lm), world.device)
    weights = take_weights(model, dtype)
    if world.size > 1 or compute_dtype != torch.float32:
        world.ensure_process_group()
        shard(model, world, compute_dtype=compute_dtype)
    give_weights(model, weights, world.device)
    return model
