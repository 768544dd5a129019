"""Makes any causal language model of transformers compute our loss, and shards it.

Axes: T tokens of documents end to end, N loss tokens, D hidden size, V vocabulary, M documents, L tokens of
the longest.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from drsft.errors import ModelError
from drsft.objectives.head import HeadShape, body_of, head_of, head_shape, plain_head
from drsft.objectives.loss import FusedLoss, LossRequest, fused_loss
from drsft.objectives.statistics import predicted
from drsft.policy.prompts import check_location, model_location
from drsft.train.attention import AttentionShape, DocumentSpans, attend_by_document
from drsft.train.units import is_one_unit
from drsft.train.world import World

__all__ = [
    "ScoringModel",
    "Traits",
    "blocks_of",
    "load_for_scoring",
    "load_model",
    "reshard",
    "shard",
    "sync_gradients_now",
]


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """The properties of a model that a trial forward shows, and its buffers."""

    head_shape: HeadShape
    attention: frozenset[AttentionShape]  # empty if documents cannot share a row
    buffers: Mapping[str, Tensor]

    @property
    def attends_by_document(self) -> bool:
        return bool(self.attention)

    @classmethod
    def of(cls, causal_lm: Any) -> "Traits":
        """Tries the model on a few tokens and returns the traits found.

        If the model can keep documents in one row apart, it is left with the attention that does so.
        """
        return cls(
            head_shape=head_shape(causal_lm),
            attention=attend_by_document(causal_lm),
            buffers=dict(causal_lm.named_buffers()),
        )


def load_model(location: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """Returns the model of a folder or hub name, on the CPU; weights stored in `dtype` are memory-mapped.

    Only safetensors are read, and no code of the model's repository runs. Raises ModelError if it cannot be
    loaded.
    """
    check_location(location)
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(Path(location).expanduser()) if location.startswith("~") else location,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:  # transformers raises OSError, ValueError and the hub's own errors alike
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"target.model {location!r}: cannot be loaded: {reason}") from error


class ScoringModel(nn.Module):
    """A causal language model whose forward returns the loss, not logits.

    It is the root that FSDP wraps: inside its forward the head is whole, tied to the embeddings or not.
    """

    def __init__(
        self, causal_lm: Any, *, activation_checkpointing: bool = False, traits: Traits | None = None
    ) -> None:
        """Without `traits` the model is tried on a few tokens, for which its weights must be loaded."""
        super().__init__()
        self.causal_lm = causal_lm
        self._draws_nothing = False
        plain_head(causal_lm)
        traits = traits or Traits.of(causal_lm)
        self.head_shape = traits.head_shape
        self.attends_by_document = traits.attends_by_document
        if activation_checkpointing:
            causal_lm.gradient_checkpointing_enable({"use_reentrant": False})

    def draw_nothing(self) -> None:
        """Switches off dropout, a router's noise and other random draws, also in training mode.

        Two passes over the same tokens then differ by the weights alone.
        """
        self._draws_nothing = True
        self.train(self.training)
        for module in filter(_is_checkpointed, self.causal_lm.modules()):
            _disable_dropout(module)
            if hasattr(module, "config"):  # Falcon reads it; a copy, since the model's own is exported
                module.config = copy(module.config)
                _disable_dropout(module.config)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._draws_nothing:
            for module in self.causal_lm.modules():
                module.training = mode and _is_checkpointed(module)
        return self

    def forward(
        self,
        input_ids_T: Tensor,
        position_ids_T: Tensor,
        loss_mask_T: Tensor,
        lengths: tuple[int, ...],
        request: LossRequest | None,
    ) -> FusedLoss | tuple[Tensor, Tensor, Tensor | None]:
        """Returns the loss over the N tokens in the mask, in order, for concatenated documents of `lengths`.

        Without a request, for a frozen model, it returns the hidden states (N, D) that predict them, and the
        head's weight and bias. No first token of a document may be in the mask, since nothing predicts it.
        """
        hidden_TD = self._hidden(input_ids_T, position_ids_T, lengths)
        hidden_ND, labels_N = predicted(hidden_TD, input_ids_T, loss_mask_T)
        head = head_of(self.causal_lm, self.head_shape)
        hidden_ND = hidden_ND.to(head.weight_VD.dtype)  # Mamba's stay in fp32 whatever its head is in
        if request is None:
            return hidden_ND, head.weight_VD, head.bias_V
        return fused_loss(hidden_ND, head, labels_N, request)

    def _hidden(self, input_ids_T: Tensor, position_ids_T: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Returns the last hidden states (T, D).

        Models that cannot keep documents apart get one per row, padded on the right, which causal attention
        never sees.
        """
        model = body_of(self.causal_lm)
        if self.attends_by_document:
            output = model(
                input_ids=input_ids_T[None],
                position_ids=position_ids_T[None],
                document_spans=DocumentSpans.of(lengths, input_ids_T.device),
                use_cache=False,
            )
            hidden_TD: Tensor = output.last_hidden_state[0]
            return hidden_TD
        padded_ML = pad_sequence(list(torch.split(input_ids_T, list(lengths))), batch_first=True)
        hidden_MLD = model(input_ids=padded_ML, use_cache=False).last_hidden_state
        return torch.cat([hidden_LD[:length] for hidden_LD, length in zip(hidden_MLD, lengths, strict=True)])


def load_for_scoring(model: str, dtype: str) -> Any:
    """Returns a frozen model in eval mode, for a `target.model` and its `target.dtype`.

    On a CPU it is in fp32; on a GPU in `dtype`, copied there weight by weight. Raises ModelError.
    """
    location = model_location(model)
    if not torch.cuda.is_available():
        return load_model(location).eval()
    return load_model(location, dtype=getattr(torch, dtype)).eval().to("cuda")


def _is_checkpointed(module: nn.Module) -> bool:
    """Returns whether a layer checkpoints its activations; it does so in training mode only."""
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing


def _disable_dropout(owner: Any) -> None:
    """Sets every dropout rate to zero that a layer stores as a number: dropout, resid_pdrop, …"""
    for name, value in list(vars(owner).items()):
        if "drop" in name and isinstance(value, float):
            setattr(owner, name, 0.0)


def shard(
    model: ScoringModel, world: World, *, compute_dtype: torch.dtype, by_block: bool | None = None
) -> None:
    """Shards parameters, gradients and optimiser state over all processes by FSDP2: each layer of the model
    as a unit of its own, then the rest of the model.

    Gradients are summed, not averaged: the loss is divided by the step's token count already. Master weights
    stay fp32; all compute in `compute_dtype` and reduce in fp32. With `by_block=False` the model is one unit;
    None decides by the number of parameters.
    If the world has several copies of the state, each is sharded over the processes that share it.
    """
    if by_block is None:
        by_block = not is_one_unit(sum(parameter.numel() for parameter in model.parameters()))
    mesh = world.mesh
    precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
    for block in blocks_of(model.causal_lm) if by_block else ():
        fully_shard(block, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
    # The root's inputs stay uncast: ids, and the request, whose log-probs are compared with fp32 ones.
    uncast = replace(precision, cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, mp_policy=uncast, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # A factor of 1 asks for a pre-multiplied sum, which only NCCL has; a plain sum is the same.
            module.set_force_sum_reduction_for_comms(True)


def reshard(model: nn.Module) -> None:
    """Frees the gathered weights and restores the shards, as a backward would have done.

    After a forward without a backward, `parameters()` of a root module that is sharded as one unit still
    returns the gathered copies. An optimiser made then would update these, and the model would never learn.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def sync_gradients_now(model: nn.Module, is_last_micro_batch: bool) -> None:
    """Sets which gradients the next backward sums over the processes; does nothing without FSDP.

    A model that FSDP shards as one unit sums its gradients only in the last micro-batch of a step. A model of
    several units sums them in every micro-batch over the processes that hold one copy of the state together,
    since until then each device holds the gradients of the whole model. Sums over several copies follow in
    the last micro-batch.
    """
    if not isinstance(model, FSDPModule):
        return
    if any(isinstance(module, FSDPModule) for module in _inner(model)):
        model.set_requires_all_reduce(is_last_micro_batch)
    else:
        model.set_requires_gradient_sync(is_last_micro_batch)


def _inner(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if module is not model]


def blocks_of(causal_lm: Any) -> list[nn.Module]:
    """Returns the outermost layers of the classes that the model declares as not to be split."""
    names = set(causal_lm._no_split_modules or ())
    named = [module for module in causal_lm.modules() if type(module).__name__ in names]
    nested = {inner for module in named for inner in _inner(module)}
    return [module for module in named if module not in nested]
