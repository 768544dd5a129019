"""The models of a training on their devices, spread over its processes."""

import torch

from drsft.records import stable_seed
from drsft.train.job import Training
from drsft.train.lora import add_adapters
from drsft.train.model import ScoringModel, load_model, shard

__all__ = ["prepare_model", "prepare_start"]


def prepare_model(training: Training) -> ScoringModel:
    """The model that is trained. Alone and in fp32 there is nothing to spread."""
    settings = training.settings
    causal_lm = load_model(training.target.location).to(training.world.device).train()
    if settings.lora is not None:
        add_adapters(causal_lm, settings.lora, seed=stable_seed(training.job.seed, "adapters"))
    model = ScoringModel(causal_lm, activation_checkpointing=settings.activation_checkpointing)
    return _spread(model, training)


def prepare_start(training: Training) -> ScoringModel:
    """The frozen start, likewise. Nothing is ever added to its weights, so they are kept in the precision
    that they are computed with; its buffers stay as they are, as the trained model's do."""
    causal_lm = load_model(training.target.location).to(training.world.device)
    model = ScoringModel(causal_lm).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(training.target.compute_dtype)
    return _spread(model, training)


def _spread(model: ScoringModel, training: Training) -> ScoringModel:
    world, compute_dtype = training.world, training.target.compute_dtype
    if world.size > 1 or compute_dtype != torch.float32:
        world.ensure_process_group()
        shard(model, world, compute_dtype=compute_dtype)
    return model
