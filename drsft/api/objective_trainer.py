"""`drsft.objective_trainer`: TRL's SFTTrainer or transformers' Trainer with the fused loss of an objective.

Axes: B rows of a batch, L positions of a row, N loss tokens, D hidden size.

Both trainers compute all logits before a `compute_loss_func` sees them, and TRL's runs the model a second
time for its metrics. The subclass made here asks the model for the loss instead: its forward ends at the last
hidden states, and the head is applied to the loss tokens alone, in chunks. `num_items_in_batch` is the number
of loss tokens of the whole optimiser step, so losses and gradients are the same for any batch size and
accumulation.
"""

from collections.abc import Mapping
from functools import wraps
from types import MethodType
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from drsft.api.label_tokens import LabelTokens
from drsft.api.settings import arm_of
from drsft.config import Arm, Guards, Objective
from drsft.errors import ConfigError
from drsft.objectives.head import Head, HeadShape, body_of, head_of, head_shape
from drsft.objectives.loss import FrozenStart, FusedLoss, LossRequest, fused_loss
from drsft.objectives.meters import metrics_of, token_sums
from drsft.objectives.statistics import token_statistics
from drsft.objectives.weights import TokenContext

__all__ = ["objective_trainer"]

T = TypeVar("T")
NOT_LOGGED = ("loss", "loss_tokens")  # the trainer logs the loss itself


def objective_trainer(
    trainer: type[T],
    objective: str | Mapping[str, Any] | Objective = "dft",
    *,
    guards: Mapping[str, Any] | Guards | None = None,
    start_model: Any = None,
) -> type[T]:
    """Returns a subclass of `trainer` that minimises `objective` and never holds all tokens' logits at once.

    `trainer` is `trl.SFTTrainer`, `transformers.Trainer` or a class derived from them. `objective` is a kind
    of docs/objectives.md, or its keys, as in `{"kind": "eaft", "top_k": 10}`; `guards` are an arm's.
    `start_model` is a frozen copy of the model before training, on its device, for objectives that compare
    with it. The trainer also logs docs/metrics.md's `ce`, `mean_p`, `entropy`, `phi`, `effective_sample_size`
    and others, in nats, over the loss tokens since the last log. It runs in one process or under DDP. Raises
    ConfigError for an objective that needs more than a batch, and when the trainer is made for FSDP,
    DeepSpeed or `nn.DataParallel`; ModelError for a model whose logits cannot be computed from its
    hidden states and its head.

    >>> trainer = drsft.objective_trainer(SFTTrainer, "dft")(
    ...     model=model_folder, args=arguments, train_dataset=dataset
    ... )
    >>> _ = trainer.train()
    >>> losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    >>> all(0 < loss < 0.3679 for loss in losses)  # −p ln p is at most 1/e
    True
    """
    arm = arm_of(objective, guards, source="objective_trainer")
    _check(arm, start_model)
    members = {
        "_arm": arm,
        "_start_model": start_model,
        "__doc__": f"{trainer.__name__} with {arm.objective!r}.",
    }
    return cast(type[T], type(f"Objective{trainer.__name__}", (_ObjectiveLoss, trainer), members))


def _check(arm: Arm, start_model: Any) -> None:
    needs, kind = arm.objective.needs, arm.objective.kind
    if needs.steps_per_snapshot is not None:
        raise ConfigError(
            f"objective_trainer: {kind} compares with the policy some steps ago; train it with drsft train"
        )
    if arm.guards.exempt_texts:
        raise ConfigError(
            "objective_trainer: guards.exempt_texts needs the run's tokenizer; train with drsft train, or "
            "use guards.min_weight"
        )
    if (needs.start_logprobs or needs.start_model) and start_model is None:
        raise ConfigError(
            f"objective_trainer: {kind} compares with the starting model; pass a frozen copy as start_model"
        )


class ModelLoss(NamedTuple):
    """What the model's forward returns in training. Only `fused.loss` carries a gradient."""

    fused: FusedLoss
    is_last_N: Tensor
    num_tokens: int  # N


class _ObjectiveLoss:
    """The methods with which `objective_trainer` overrides the trainer's own."""

    _arm: Arm
    _start_model: Any
    model: Any
    args: Any
    accelerator: Any
    state: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check_setup()
        self.model_accepts_loss_kwargs = True  # so that the trainer counts the step's loss tokens
        self._sums: dict[str, Tensor] = {}  # "train" or "eval" -> token_sums since the last log
        _answer_with_loss(_causal_lm(self.model))
        if self._start_model is not None:
            self._start_model.eval().requires_grad_(False).to(self.args.device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the fused loss, and the model's outputs too if `return_outputs`.

        With `compute_metrics` set, the outputs hold full logits.
        """
        if "labels" not in inputs:
            raise ConfigError("objective_trainer: the batch has no labels; use a collator that makes them")
        if "shift_labels" in inputs:
            raise ConfigError("objective_trainer: context parallelism is not supported; set cp_size to 1")
        request = _Request(
            arm=self._arm,
            start_model=self._start_model,
            num_loss_tokens=None if num_items_in_batch is None else float(num_items_in_batch),
            progress=self.state.global_step / max(self.state.max_steps, 1),
        )
        found: ModelLoss = model(**inputs, objective_request=request)
        self._add(found)
        loss = found.fused.loss
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages what is to be summed
        if not return_outputs:
            return loss
        if getattr(self, "compute_metrics", None) is None:
            return loss, {"loss": loss}
        with torch.no_grad():
            return loss, model(**{name: value for name, value in inputs.items() if name != "labels"})

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs `logs` with the means over the loss tokens since the last log, of all processes."""
        mode = "train" if self.model.training else "eval"
        sums = self._sums.pop(mode, None)
        if sums is not None:
            prefix = "eval_" if mode == "eval" else ""
            metrics = metrics_of(self.accelerator.reduce(sums, reduction="sum").cpu())
            logs.update({f"{prefix}{name}": metrics[name] for name in metrics if name not in NOT_LOGGED})
        cast(Any, super()).log(logs, *args, **kwargs)

    def _add(self, found: ModelLoss) -> None:
        if not found.num_tokens:
            return
        mode = "train" if self.model.training else "eval"
        sums = token_sums(found.fused, is_last_N=found.is_last_N)
        self._sums[mode] = self._sums[mode] + sums if mode in self._sums else sums

    def _check_setup(self) -> None:
        where = {
            "FSDP": getattr(self, "is_fsdp_enabled", False),
            "DeepSpeed": getattr(self, "is_deepspeed_enabled", False),
            "nn.DataParallel": self.args.n_gpu > 1,
        }
        if found := [name for name, is_used in where.items() if is_used]:
            raise ConfigError(
                f"objective_trainer: {found[0]} is not supported, only one process or DDP; to shard the "
                "model, use drsft train"
            )


class _Request(NamedTuple):
    """The arguments of the model's forward besides the batch, for computing the loss."""

    arm: Arm
    start_model: Any
    num_loss_tokens: float | None  # of the whole step; None: of this batch
    progress: float  # share of the steps that are done


def _causal_lm(model: Any) -> Any:
    """Returns the model below PEFT's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _answer_with_loss(causal_lm: Any) -> None:
    """Makes the model's forward return a ModelLoss when it is given a request; otherwise nothing changes.

    The loss is part of the forward, so that DDP's and accelerate's wrappers stay around it.
    """
    shape, forward = head_shape(causal_lm), causal_lm.forward

    @wraps(type(causal_lm).forward)
    def answer(self: Any, *args: Any, objective_request: _Request | None = None, **kwargs: Any) -> Any:
        if objective_request is None:
            return forward(*args, **kwargs)
        return _loss_of_model(self, shape, kwargs, objective_request)

    causal_lm.forward = MethodType(answer, causal_lm)


def _loss_of_model(causal_lm: Any, shape: HeadShape, batch: dict[str, Any], request: _Request) -> ModelLoss:
    labels_BL = batch["labels"]
    read = {name: value for name, value in batch.items() if name != "labels"} | {"use_cache": False}
    tokens = LabelTokens.of(labels_BL, batch.get("position_ids"))
    hidden_ND, head = _predicting(causal_lm, shape, read, tokens)
    start = None
    if request.start_model is not None:
        with torch.no_grad():
            hidden = _predicting(request.start_model, shape, read, tokens)
        start = FrozenStart(hidden_ND=hidden[0], head=hidden[1])
    num_tokens = len(tokens.labels_N)
    asked = LossRequest(
        num_loss_tokens=max(num_tokens, 1) if request.num_loss_tokens is None else request.num_loss_tokens,
        objective=request.arm.objective,
        guards=request.arm.guards,
        context=_context(request, tokens, start),
        start=start if request.arm.objective.needs.start_model else None,
    )
    with torch.autocast(hidden_ND.device.type, enabled=False):
        fused = fused_loss(hidden_ND, head, tokens.labels_N, asked)
    return ModelLoss(fused, tokens.is_last_N, num_tokens)


def _predicting(
    causal_lm: Any, shape: HeadShape, read: dict[str, Any], tokens: LabelTokens
) -> tuple[Tensor, Head]:
    """Returns the hidden states (N, D) that predict the loss tokens, and the head, in autocast's
    precision.
    """
    hidden_BLD = body_of(causal_lm)(**read).last_hidden_state
    head = head_of(causal_lm, shape)
    device = hidden_BLD.device.type
    is_cast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_cast else head.weight_VD.dtype
    bias_V = None if head.bias_V is None else head.bias_V.to(dtype)
    return hidden_BLD[tokens.is_predicting_BL].to(dtype), Head(
        weight_VD=head.weight_VD.to(dtype), bias_V=bias_V, shape=shape
    )


def _context(request: _Request, tokens: LabelTokens, start: FrozenStart | None) -> TokenContext:
    start_logprobs_N = None
    if start is not None:
        start_logprobs_N = token_statistics(start.hidden_ND, start.head, tokens.labels_N).logprobs_N
    return TokenContext(
        start_logprobs_N=start_logprobs_N,
        document_ids_N=tokens.document_ids_N,
        is_exempt_N=tokens.is_last_N if request.arm.guards.exempt_end_of_turn else None,
        progress=request.progress,
    )
