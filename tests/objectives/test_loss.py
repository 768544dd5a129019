"""The fused loss with its gradient against full logits under autograd, in float64."""

import pytest
import torch
from torch import Tensor

from drsft.config.objectives import Asft, Dft, DftGeomean, Guards, Objective, Sft
from drsft.objectives.head import Head, HeadShape
from drsft.objectives.loss import FrozenStart, FusedLoss, LossRequest, fused_loss
from drsft.objectives.weights import TokenContext

T, D, V, N = 23, 7, 31, 50
IDS = torch.arange(T) // 6
SHAPES = [
    HeadShape(),
    HeadShape(scale=0.6),
    HeadShape(softcap=4.0),
    HeadShape(scale=1.4, softcap=6.0),
]
Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(dtype: torch.dtype = torch.float64) -> Inputs:
    generator = torch.Generator().manual_seed(5)
    shapes = ((T, D), (V, D), (V,))
    hidden_ND, weight_VD, bias_V = (torch.randn(shape, generator=generator).double() for shape in shapes)
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (hidden_ND, weight_VD, bias_V))  # type: ignore[return-value]


def labels() -> Tensor:
    return torch.randint(0, V, (T,), generator=torch.Generator().manual_seed(6))


def start_hidden() -> Tensor:
    return torch.randn(T, D, generator=torch.Generator().manual_seed(7)).double()


def request(
    objective: Objective,
    chunk_tokens: int | None = None,
    shape: HeadShape = SHAPES[0],
    share_N: Tensor | None = None,
) -> LossRequest:
    _, weight_VD, bias_V = inputs()
    start = FrozenStart(
        hidden_ND=start_hidden(), head=Head(weight_VD=weight_VD.detach(), bias_V=bias_V.detach(), shape=shape)
    )
    return LossRequest(
        num_loss_tokens=N,
        objective=objective,
        guards=Guards(min_weight=0.01),
        context=TokenContext(document_ids_N=IDS, is_exempt_N=torch.arange(T) % 5 == 4, share_N=share_N),
        start=start if isinstance(objective, Asft) else None,
        chunk_tokens=chunk_tokens,
    )


def full_logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, shape: HeadShape) -> Tensor:
    logits_TV = (hidden_ND @ weight_VD.T + bias_V) * shape.scale
    if shape.softcap is not None:
        logits_TV = shape.softcap * torch.tanh(logits_TV / shape.softcap)
    return logits_TV


def oracle(objective: Objective, tensors: Inputs, shape: HeadShape, share_N: Tensor | float = 1.0) -> Tensor:
    """With every logit, and the weights written out again."""
    logp_TV = full_logits(*tensors, shape).log_softmax(-1)
    logp_N = logp_TV[torch.arange(T), labels()]
    p_N = logp_N.detach().exp()
    match objective:
        case Sft():
            weight_N = torch.ones_like(p_N)
        case DftGeomean():
            means = torch.stack([logp_N.detach()[one == IDS].mean() for one in IDS.unique()])
            weight_N = means.exp()[IDS]
        case _:
            weight_N = p_N
    weight_N = weight_N.clamp(min=0.01)
    weight_N[torch.arange(T) % 5 == 4] = 1
    loss_N = -weight_N * logp_N
    if isinstance(objective, Asft):
        start_TV = full_logits(start_hidden(), *(t.detach() for t in tensors[1:]), shape).log_softmax(-1)
        loss_N = loss_N + objective.kl_weight * (start_TV.exp() * (start_TV - logp_TV)).sum(-1)
    return (share_N * loss_N).sum() / N


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chunk_tokens", [1, 5, T, None])
@pytest.mark.parametrize(
    "objective", [Sft(), Dft(), DftGeomean(), Asft(kl_weight=0.3)], ids=lambda objective: objective.kind
)
def test_loss_and_gradients_equal_full_logits(
    objective: Objective, chunk_tokens: int | None, shape: HeadShape
) -> None:
    hidden_ND, weight_VD, bias_V = tensors = inputs()
    head = Head(weight_VD=weight_VD, bias_V=bias_V, shape=shape)
    fused = fused_loss(hidden_ND, head, labels(), request(objective, chunk_tokens, shape))
    want = oracle(objective, tensors, shape)
    torch.testing.assert_close(fused.loss, want, rtol=0, atol=1e-12)
    found, expected = (torch.autograd.grad(3 * loss, tensors) for loss in (fused.loss, want))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_tokens", [5, None])
@pytest.mark.parametrize(
    "objective", [Sft(), Dft(), DftGeomean(), Asft(kl_weight=0.3)], ids=lambda objective: objective.kind
)
def test_a_share_multiplies_all_of_a_tokens_loss(objective: Objective, chunk_tokens: int | None) -> None:
    hidden_ND, weight_VD, bias_V = tensors = inputs()
    share_N = torch.rand(T, generator=torch.Generator().manual_seed(8)).double()
    head = Head(weight_VD=weight_VD, bias_V=bias_V, shape=SHAPES[3])
    fused = fused_loss(hidden_ND, head, labels(), request(objective, chunk_tokens, SHAPES[3], share_N))
    want = oracle(objective, tensors, SHAPES[3], share_N)
    torch.testing.assert_close(fused.loss, want, rtol=0, atol=1e-12)
    found, expected = (torch.autograd.grad(loss, tensors) for loss in (fused.loss, want))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_tied_head_gets_both_gradients() -> None:
    """The embeddings that make the hidden states are the head's weight, as in small models."""

    def gradient(fused: bool) -> Tensor:
        weight_VD = inputs()[1]
        hidden_ND = weight_VD[labels().roll(1)].tanh()
        if fused:
            loss = fused_loss(hidden_ND, Head(weight_VD=weight_VD), labels(), request(Sft())).loss
        else:
            loss = oracle(Sft(), (hidden_ND, weight_VD, torch.zeros(V).double()), SHAPES[0])
        return torch.autograd.grad(loss, weight_VD)[0]

    torch.testing.assert_close(gradient(True), gradient(False), rtol=0, atol=1e-12)


def run(tensors: Inputs, objective: Objective = Dft()) -> FusedLoss:  # noqa: B008 - frozen
    return fused_loss(
        tensors[0], Head(weight_VD=tensors[1], bias_V=tensors[2]), labels(), request(objective, 6)
    )


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (2,)])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen: tuple[int, ...]) -> None:
    free = inputs()
    torch.autograd.backward(run(free).loss)
    some = inputs()
    for index in frozen:
        some[index].requires_grad_(False)
    torch.autograd.backward(run(some).loss)
    for index, (one, other) in enumerate(zip(some, free, strict=True)):
        assert (one.grad is None) if index in frozen else torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_only_the_loss_carries_a_gradient() -> None:
    fused = run(inputs())
    assert fused.loss.requires_grad
    tensors = [t for part in (fused.statistics, fused.terms) for t in part if isinstance(t, Tensor)]
    assert len(tensors) == 6
    assert not any(tensor.requires_grad for tensor in tensors)


def test_scoring_makes_no_gradient() -> None:
    tensors = inputs()
    with torch.no_grad():
        scored = run(tensors)
    assert not scored.loss.requires_grad
    assert torch.equal(scored.loss, run(tensors).loss)


def test_the_gradient_is_taken_once() -> None:
    fused = run(inputs())
    fused.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already computed"):
        fused.loss.backward()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_narrow_inputs_have_fp32_statistics_and_their_own_gradients(
    dtype: torch.dtype, tolerance: float
) -> None:
    tensors, exact = inputs(dtype), inputs()
    fused = run(tensors)
    assert fused.loss.dtype == fused.statistics.logprobs_N.dtype == torch.float32
    found = torch.autograd.grad(fused.loss, tensors)
    expected = torch.autograd.grad(run(exact).loss, exact)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() < tolerance * other.norm() + 1e-9


def test_a_micro_batch_without_loss_tokens_has_zero_gradients() -> None:
    hidden_ND, weight_VD, bias_V = inputs()
    head = Head(weight_VD=weight_VD, bias_V=bias_V)
    empty = LossRequest(num_loss_tokens=N, objective=Dft())
    fused = fused_loss(hidden_ND[:0], head, labels()[:0], empty)
    assert fused.loss.item() == 0
    assert fused.statistics.logprobs_N.shape == fused.terms.weight_N.shape == (0,)
    for gradient in torch.autograd.grad(fused.loss, (hidden_ND, weight_VD, bias_V)):
        assert not gradient.any()


def test_a_masked_vocabulary_entry_stays_finite() -> None:
    hidden_ND, weight_VD, bias_V = inputs()
    with torch.no_grad():
        bias_V[next(v for v in range(V) if v not in labels())] = -torch.inf
    fused = run((hidden_ND, weight_VD, bias_V))
    assert torch.isfinite(fused.statistics.entropy_N).all()
    assert all(
        torch.isfinite(g).all() for g in torch.autograd.grad(fused.loss, (hidden_ND, weight_VD, bias_V))
    )


def test_a_kl_term_wants_a_start_and_nothing_else_takes_one() -> None:
    hidden_ND, weight_VD, _ = inputs()
    start = FrozenStart(hidden_ND=start_hidden(), head=Head(weight_VD=weight_VD))
    for objective, given in ((Asft(), None), (Dft(), start)):
        with pytest.raises(ValueError, match="frozen start"):
            fused_loss(
                hidden_ND,
                Head(weight_VD=weight_VD),
                labels(),
                LossRequest(num_loss_tokens=N, objective=objective, start=given),
            )


def test_chunks_make_micro_batches_that_add_up() -> None:
    """The loss is divided by the step's tokens, so two halves give the gradient of the whole."""
    hidden_ND, weight_VD, bias_V = tensors = inputs()
    head = Head(weight_VD=weight_VD, bias_V=bias_V)
    ask = LossRequest(num_loss_tokens=N, objective=Dft())
    whole = torch.autograd.grad(fused_loss(hidden_ND, head, labels(), ask).loss, tensors)
    parts = [
        fused_loss(hidden_ND[part], head, labels()[part], ask).loss for part in (slice(9), slice(9, None))
    ]
    torch.testing.assert_close(torch.autograd.grad(sum(parts), tensors), whole, rtol=0, atol=1e-15)
