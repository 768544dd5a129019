"""The chunked head against full logits in float64."""

import pytest
import torch
from torch import Tensor

from drsft.objectives.statistics import TokenStatistics, token_statistics

NUM_TOKENS, HIDDEN, VOCAB = 23, 7, 31


def inputs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden_TD = torch.randn(NUM_TOKENS, HIDDEN, generator=generator, dtype=torch.float64) * scale
    head_VD = torch.randn(VOCAB, HIDDEN, generator=generator, dtype=torch.float64)
    labels_T = torch.randint(0, VOCAB, (NUM_TOKENS,), generator=generator)
    return hidden_TD.to(dtype).requires_grad_(), head_VD.to(dtype).requires_grad_(), labels_T


def oracle(hidden_TD: Tensor, head_VD: Tensor, labels_T: Tensor) -> TokenStatistics:
    """The definition, with every logit held, in float64."""
    logp_TV = torch.log_softmax(hidden_TD.double() @ head_VD.double().T, dim=-1)
    entropy_T = torch.special.entr(logp_TV.exp()).sum(-1)
    return TokenStatistics(logp_TV[torch.arange(len(labels_T)), labels_T], entropy_T.detach())


@pytest.mark.parametrize("chunk_tokens", [1, 5, 23, 1024])
def test_chunks_of_any_size_equal_full_logits(chunk_tokens: int) -> None:
    hidden_TD, head_VD, labels_T = inputs()
    got = token_statistics(hidden_TD, head_VD, labels_T, chunk_tokens=chunk_tokens)
    want = oracle(hidden_TD, head_VD, labels_T)
    torch.testing.assert_close(got.logprobs_T, want.logprobs_T, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.entropy_T, want.entropy_T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_tokens", [5, 1024])
def test_gradient_reaches_hidden_states_and_head(chunk_tokens: int) -> None:
    hidden_TD, head_VD, labels_T = inputs()
    weight_T = torch.linspace(-1, 2, NUM_TOKENS, dtype=torch.float64)
    got = token_statistics(hidden_TD, head_VD, labels_T, chunk_tokens=chunk_tokens)
    got_grads = torch.autograd.grad((got.logprobs_T * weight_T).sum(), (hidden_TD, head_VD))
    want = oracle(hidden_TD, head_VD, labels_T)
    want_grads = torch.autograd.grad((want.logprobs_T * weight_T).sum(), (hidden_TD, head_VD))
    torch.testing.assert_close(got_grads, want_grads, rtol=0, atol=1e-12)


def test_entropy_carries_no_gradient() -> None:
    statistics = token_statistics(*inputs())
    assert statistics.logprobs_T.requires_grad
    assert not statistics.entropy_T.requires_grad


def test_frozen_head_gets_no_gradient_and_hidden_states_do() -> None:
    hidden_TD, head_VD, labels_T = inputs()
    token_statistics(hidden_TD, head_VD.detach(), labels_T).logprobs_T.sum().backward()
    assert hidden_TD.grad is not None
    assert head_VD.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_fp32_for_narrow_inputs(dtype: torch.dtype) -> None:
    hidden_TD, head_VD, labels_T = inputs(dtype)
    with torch.no_grad():
        got = token_statistics(hidden_TD, head_VD, labels_T, chunk_tokens=6)
    want = oracle(hidden_TD, head_VD, labels_T)
    assert got.logprobs_T.dtype == got.entropy_T.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.08  # bf16 products of size 10 are off by up to 1/32
    torch.testing.assert_close(got.logprobs_T.double(), want.logprobs_T.detach(), rtol=0, atol=tolerance)


def test_extreme_logits_stay_finite() -> None:
    hidden_TD, head_VD, labels_T = inputs(torch.float32, scale=1e3)
    statistics = token_statistics(hidden_TD, head_VD, labels_T)
    statistics.logprobs_T.sum().backward()
    assert hidden_TD.grad is not None
    assert torch.isfinite(statistics.entropy_T).all()
    assert torch.isfinite(hidden_TD.grad).all()
    assert (statistics.entropy_T > -1e-6).all()


def test_phi_of_a_uniform_distribution_is_zero() -> None:
    statistics = token_statistics(torch.zeros(3, HIDDEN), torch.randn(VOCAB, HIDDEN), torch.arange(3))
    torch.testing.assert_close(statistics.phi_T, torch.zeros(3))


def test_no_tokens_give_no_statistics() -> None:
    hidden_TD = torch.zeros(0, HIDDEN, requires_grad=True)
    statistics = token_statistics(hidden_TD, torch.randn(VOCAB, HIDDEN), torch.zeros(0, dtype=torch.long))
    statistics.logprobs_T.sum().backward()
    assert statistics.logprobs_T.shape == (0,)


def test_misaligned_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="do not align"):
        token_statistics(torch.zeros(4, HIDDEN), torch.zeros(VOCAB, HIDDEN), torch.zeros(3, dtype=torch.long))
