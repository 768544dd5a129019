"""Whether a model's logits are its last hidden states times its head: all that the chunked head knows."""

from typing import Any

from torch import Tensor

from drsft.errors import ModelError

__all__ = ["plain_head"]

# Settings that scale or bend the logits after the head: statistics would be silently wrong under them.
BENDING_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def plain_head(causal_lm: Any) -> Tensor:
    """The head's weight (V, D) of a Hugging Face causal language model. ModelError for any other head."""
    head = causal_lm.get_output_embeddings()
    bent = [name for name in BENDING_SETTINGS if getattr(causal_lm.config, name, None) not in (None, 1, 1.0)]
    if head is None or bent or getattr(head, "bias", None) is not None:
        reason = ", ".join(bent) or ("it has no head" if head is None else "its head has a bias")
        raise ModelError(
            f"{type(causal_lm).__name__} is not supported: its logits are not hidden states times the head "
            f"({reason})"
        )
    weight: Tensor = head.weight
    return weight
