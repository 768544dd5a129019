"""`drsft.objective_loss`: an objective as a trainer's `compute_loss_func`, on the logits that it is given.

Axes: B rows of a batch, L positions of a row, N loss tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from drsft.api.label_tokens import LabelTokens
from drsft.api.settings import arm_of
from drsft.config import Arm, Guards, Objective
from drsft.errors import ConfigError
from drsft.objectives.kernels import softmax_statistics, top_entropy
from drsft.objectives.statistics import TokenStatistics, row_slices
from drsft.objectives.weights import TokenContext, guarded_terms, token_terms

__all__ = ["objective_loss"]

ComputeLoss = Callable[..., Tensor]


def objective_loss(
    objective: str | Mapping[str, Any] | Objective = "dft",
    *,
    guards: Mapping[str, Any] | Guards | None = None,
) -> ComputeLoss:
    """Returns a function for `compute_loss_func` of transformers' Trainer.

    The function takes the model's outputs with `logits` (B, L, V), the labels (B, L) with −100 where there is
    no loss, and `num_items_in_batch`, the number of loss tokens of the whole optimiser step (None: of this
    batch); it returns Σ loss / that number, a scalar. It holds the logits of all loss tokens, as the trainer
    does: `objective_trainer` needs a fraction of that memory. A document is a row, so batches must be padded,
    not padding-free, for objectives over whole completions. Raises ConfigError for objectives that compare
    with another model or step, or that change while training.

    >>> import torch
    >>> from transformers.modeling_outputs import CausalLMOutput
    >>> logits = torch.zeros(1, 3, 4)  # every token of four has p = 1/4
    >>> labels = torch.tensor([[-100, 2, 3]])
    >>> round(drsft.objective_loss("dft")(CausalLMOutput(logits=logits), labels).item(), 4)  # −p ln p
    0.3466
    """
    arm = arm_of(objective, guards, source="objective_loss")
    _check(arm)

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        tokens = LabelTokens.of(labels, None)
        logits_NV = outputs.logits[tokens.is_predicting_BL].float()
        num_tokens = max(len(tokens.labels_N), 1) if num_items_in_batch is None else num_items_in_batch
        return _loss_sum(arm, logits_NV, tokens) / num_tokens

    return loss


def _check(arm: Arm) -> None:
    needs, kind = arm.objective.needs, arm.objective.kind
    if needs.compares:
        raise ConfigError(
            f"objective_loss: {kind} compares with another model; use drsft.objective_trainer or drsft train"
        )
    if arm.guards.exempt_texts:
        raise ConfigError("objective_loss: guards.exempt_texts needs the run's tokenizer; use drsft train")
    if getattr(arm.objective, "warmup_ratio", 0) or getattr(arm.objective, "transition_ratio", 0):
        raise ConfigError(
            f"objective_loss: {kind} changes with the step (warmup_ratio or transition_ratio), which a loss "
            "function is not told; use drsft.objective_trainer"
        )


def _loss_sum(arm: Arm, logits_NV: Tensor, tokens: LabelTokens) -> Tensor:
    """Returns the sum of the tokens' losses.

    Its gradient is that of −weight · log p with a constant weight.
    """
    statistics = _statistics(arm, logits_NV.detach(), tokens.labels_N)
    context = TokenContext(
        document_ids_N=tokens.document_ids_N,
        is_exempt_N=tokens.is_last_N if arm.guards.exempt_end_of_turn else None,
    )
    terms = token_terms(arm.objective, statistics, context)
    terms = guarded_terms(terms, statistics.logprobs_N, arm.guards, context.is_exempt_N)
    ce_N = cross_entropy(logits_NV, tokens.labels_N, reduction="none")
    return (terms.loss_N + terms.weight_N * (ce_N - ce_N.detach())).sum()


@torch.no_grad()
def _statistics(arm: Arm, logits_NV: Tensor, labels_N: Tensor) -> TokenStatistics:
    needs = arm.objective.needs
    parts = [
        softmax_statistics(logits_NV[rows], labels_N[rows], entropy_epsilon=needs.entropy_epsilon)
        for rows in row_slices(logits_NV)
    ]
    return TokenStatistics(
        logprobs_N=torch.cat([part.logprobs_C for part in parts]),
        entropy_N=torch.cat([part.entropy_C for part in parts]),
        top_entropy_N=None if needs.top_k is None else top_entropy(logits_NV, needs.top_k),
        max_entropy=torch.tensor(float(logits_NV.shape[-1])).log().item(),
    )
