"""Accumulates the gradients of a chunk's logits: for the hidden states, and for the head's weight and bias.

Axes: N loss tokens, C tokens of a chunk, D hidden size, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from drsft.objectives.head import Head

__all__ = ["HeadGradients"]


class HeadGradients:
    """Accumulates gradients chunk by chunk: of the hidden states, and of the head's weight and bias.

    Weight and bias are summed in at least fp32. `wanted` says for each of the three whether it is computed.
    """

    def __init__(self, hidden_ND: Tensor, head: Head, *, wanted: Sequence[bool]) -> None:
        self._hidden_ND, self._head = hidden_ND, head
        dtype = torch.promote_types(hidden_ND.dtype, torch.float32)
        self._of_hidden_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        self._of_weight_VD = torch.zeros_like(head.weight_VD, dtype=dtype) if wanted[1] else None
        self._of_bias_V = hidden_ND.new_zeros(head.vocab_size, dtype=dtype) if wanted[2] else None
        self.are_wanted = any(wanted)

    def place_for(self, logits_CV: Tensor) -> Tensor | None:
        """Returns the buffer for the gradient of a chunk's logits; None if no gradient is wanted.

        It is the tensor of the logits itself, which is then overwritten, unless the head has another
        precision.
        """
        if not self.are_wanted or logits_CV.dtype == self._head.weight_VD.dtype:
            return logits_CV if self.are_wanted else None
        return torch.empty_like(logits_CV, dtype=self._head.weight_VD.dtype)

    def add(self, chunk: slice, gradient_CV: Tensor) -> None:
        if self._of_hidden_ND is not None:
            torch.mm(gradient_CV, self._head.weight_VD, out=self._of_hidden_ND[chunk])
        if self._of_weight_VD is not None:
            _add_product(self._of_weight_VD, gradient_CV.T, self._hidden_ND[chunk])
        if self._of_bias_V is not None:
            self._of_bias_V += gradient_CV.sum(0, dtype=self._of_bias_V.dtype)

    def finished(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        head = self._head
        return (
            self._of_hidden_ND,
            None if self._of_weight_VD is None else self._of_weight_VD.to(head.weight_VD.dtype),
            None if self._of_bias_V is None or head.bias_V is None else self._of_bias_V.to(head.bias_V.dtype),
        )


def _add_product(sum_VD: Tensor, left_VC: Tensor, right_CD: Tensor) -> None:
    """Computes sum += left @ right.

    On CUDA a half-precision product is added in fp32, without a V × D temporary.
    """
    if left_VC.dtype == sum_VD.dtype:
        sum_VD.addmm_(left_VC, right_CD)
    elif sum_VD.is_cuda:
        torch.addmm(sum_VD, left_VC, right_CD, out_dtype=sum_VD.dtype, out=sum_VD)
    else:
        sum_VD += left_VC @ right_CD
