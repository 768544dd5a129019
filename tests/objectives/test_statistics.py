"""The chunked head for scoring against full logits in float64."""

import math

import pytest
import torch
from torch import Tensor

from drsft.objectives.head import Head
from drsft.objectives.kernels import logit_gradient, softmax_statistics
from drsft.objectives.statistics import TokenStatistics, predicted, row_slices, token_statistics

NUM_TOKENS, HIDDEN, VOCAB = 23, 7, 31


def inputs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Head, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden_ND = torch.randn(NUM_TOKENS, HIDDEN, generator=generator, dtype=torch.float64) * scale
    weight_VD = torch.randn(VOCAB, HIDDEN, generator=generator, dtype=torch.float64)
    labels_N = torch.randint(0, VOCAB, (NUM_TOKENS,), generator=generator)
    return hidden_ND.to(dtype), Head(weight_VD=weight_VD.to(dtype).requires_grad_()), labels_N


def oracle(hidden_ND: Tensor, head: Head, labels_N: Tensor) -> TokenStatistics:
    """The definition, with every logit held, in float64."""
    logp_TV = torch.log_softmax(hidden_ND.double() @ head.weight_VD.detach().double().T, dim=-1)
    entropy_N = torch.special.entr(logp_TV.exp()).sum(-1)
    top_Tk = logp_TV.sort(-1, descending=True).values[:, :4].softmax(-1)
    top_entropy_N = torch.special.entr(top_Tk).sum(-1)
    return TokenStatistics(logp_TV[torch.arange(len(labels_N)), labels_N], entropy_N, top_entropy_N)


@pytest.mark.parametrize("chunk_tokens", [1, 5, 23, None])
def test_chunks_of_any_size_equal_full_logits(chunk_tokens: int | None) -> None:
    got = token_statistics(*inputs(), top_k=4, chunk_tokens=chunk_tokens)
    want = oracle(*inputs())
    torch.testing.assert_close(got[:3], want[:3], rtol=0, atol=1e-12)
    assert got.max_entropy == pytest.approx(math.log(VOCAB))


def test_the_likeliest_token_is_known_by_its_log_prob() -> None:
    hidden_ND, head, labels_N = inputs()
    logp_TV = torch.log_softmax(hidden_ND @ head.weight_VD.detach().T, -1)
    labels_N[::2] = logp_TV.argmax(-1)[::2]
    got = token_statistics(hidden_ND, head, labels_N, chunk_tokens=5)
    torch.testing.assert_close(got.top_logprobs_N, logp_TV.amax(-1), rtol=0, atol=1e-12)
    assert got.is_top_N.tolist() == (labels_N == logp_TV.argmax(-1)).tolist()
    with pytest.raises(ValueError, match="is_top_N needs top_logprobs_N"):
        _ = got._replace(top_logprobs_N=None).is_top_N


def test_scoring_carries_no_gradient() -> None:
    statistics = token_statistics(*inputs())
    assert not statistics.logprobs_N.requires_grad
    assert not statistics.entropy_N.requires_grad


def test_an_epsilon_goes_inside_the_logarithm() -> None:
    hidden_ND, head, labels_N = inputs()
    p_TV = torch.softmax(hidden_ND @ head.weight_VD.detach().T, -1)
    got = token_statistics(hidden_ND, head, labels_N, entropy_epsilon=1e-2)
    torch.testing.assert_close(got.entropy_N, -(p_TV * (p_TV + 1e-2).log()).sum(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_fp32_for_narrow_inputs(dtype: torch.dtype) -> None:
    got = token_statistics(*inputs(dtype), chunk_tokens=6)
    want = oracle(*inputs(dtype))
    assert got.logprobs_N.dtype == got.entropy_N.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.08  # bf16 products of size 10 are off by up to 1/32
    torch.testing.assert_close(got.logprobs_N.double(), want.logprobs_N, rtol=0, atol=tolerance)


def test_extreme_logits_stay_finite() -> None:
    statistics = token_statistics(*inputs(torch.float32, scale=1e3))
    assert torch.isfinite(statistics.entropy_N).all()
    assert (statistics.entropy_N > -1e-6).all()


def test_phi_of_a_uniform_distribution_is_zero() -> None:
    head = Head(weight_VD=torch.randn(VOCAB, HIDDEN))
    statistics = token_statistics(torch.zeros(3, HIDDEN), head, torch.arange(3))
    torch.testing.assert_close(statistics.phi_N, torch.zeros(3))


def test_no_tokens_give_no_statistics() -> None:
    hidden_ND, head, labels_N = inputs()
    assert token_statistics(hidden_ND[:0], head, labels_N[:0]).logprobs_N.shape == (0,)


def test_misaligned_labels_are_refused() -> None:
    hidden_ND, head, labels_N = inputs()
    with pytest.raises(ValueError, match="do not align"):
        token_statistics(hidden_ND, head, labels_N[1:])


def test_the_state_before_a_token_predicts_it() -> None:
    hidden_TD = torch.arange(5.0)[:, None]
    mask_T = torch.tensor([False, False, True, True, False])
    states_ND, labels_N = predicted(hidden_TD, torch.tensor([10, 11, 12, 13, 14]), mask_T)
    assert states_ND[:, 0].tolist() == [1, 2]
    assert labels_N.tolist() == [12, 13]


def test_slices_cover_every_row_once() -> None:
    for num_rows in (1, 6, 13):
        logits_CV = torch.zeros(num_rows, 200_000)
        covered = [row for rows in row_slices(logits_CV) for row in range(num_rows)[rows]]
        assert covered == list(range(num_rows))


@pytest.mark.slow  # compiles C++
def test_compiled_kernels_give_the_same_numbers() -> None:
    """On CUDA they run compiled; the compiler can be tried on a CPU."""
    logits_CV = torch.randn(9, 301, generator=torch.Generator().manual_seed(1)) * 4
    labels_C = torch.arange(9)
    plain, weight_C = softmax_statistics.__wrapped__, torch.linspace(-1, 2, 9)  # type: ignore[attr-defined]
    want = plain(logits_CV, labels_C)
    got = torch.compile(plain)(logits_CV, labels_C)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    arguments = {
        "normaliser_C": want.normaliser_C,
        "reference_CV": logits_CV.roll(1),
        "reference_normaliser_C": want.normaliser_C,
        "kl_weight": 0.3,
        "softcap": 30.0,
        "dtype": torch.bfloat16,
    }
    gradient = logit_gradient.__wrapped__  # type: ignore[attr-defined]
    want_CV = gradient(logits_CV, labels_C, weight_C, **arguments)
    got_CV = torch.compile(gradient)(logits_CV, labels_C, weight_C, **arguments)
    torch.testing.assert_close(got_CV, want_CV, rtol=1e-2, atol=1e-4)  # one rounding to bf16


@pytest.mark.slow  # compiles C++
def test_a_compiled_kernel_takes_a_weight_that_changes_from_step_to_step() -> None:
    """The KL term's weight is divided by the step's loss tokens, which no two steps have alike."""
    logits_CV = torch.randn(9, 301, generator=torch.Generator().manual_seed(1)) * 4
    reference_CV = logits_CV.roll(1)
    plain = logit_gradient.__wrapped__  # type: ignore[attr-defined]
    compiled = torch.compile(plain)
    for kl_weight in (0.1, 0.2, 0.3):
        got_CV, want_CV = (
            kernel(
                logits_CV,
                torch.arange(9),
                torch.linspace(-1, 2, 9),
                normaliser_C=logits_CV.logsumexp(-1),
                reference_CV=reference_CV,
                reference_normaliser_C=reference_CV.logsumexp(-1),
                kl_weight=kl_weight,
                softcap=None,
                dtype=torch.float32,
            )
            for kernel in (compiled, plain)
        )
        torch.testing.assert_close(got_CV, want_CV, rtol=1e-6, atol=1e-6)
