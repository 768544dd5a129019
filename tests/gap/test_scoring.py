"""Scoring against a float64 model with full logits, one row at a time, on a tiny random Qwen2."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import MambaConfig, MambaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from drsft.errors import ModelError
from drsft.gap.scoring import Row, score_rows
from drsft.objectives import chunk_size
from drsft.objectives.head import NUM_PROBE_TOKENS

VOCABULARY = 97


def _model(**changes: Any) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,  # far from uniform, so that errors show
    }
    return Qwen2ForCausalLM(Qwen2Config(**{**settings, **changes})).eval()


def _rows(count: int) -> list[Row]:
    rng = np.random.default_rng(1)
    return [
        (rng.integers(VOCABULARY, size=rng.integers(1, 20)).tolist(),
         rng.integers(VOCABULARY, size=rng.integers(1, 40)).tolist())
        for _ in range(count)
    ]  # fmt: skip


def _oracle(model: Qwen2ForCausalLM, row: Row) -> tuple[np.ndarray, np.ndarray]:
    prompt, completion = row
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
    log_p = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    chosen = log_p[torch.arange(len(completion)), torch.tensor(completion)]
    return chosen.numpy(), -(log_p.exp() * log_p).sum(-1).numpy()


@pytest.mark.parametrize("tied", [False, True])
def test_scores_equal_a_float64_reference_with_full_logits(tied: bool) -> None:
    model = _model(tie_word_embeddings=tied)
    rows = _rows(25)
    scores = score_rows(model, rows, batch_tokens=200, chunk_tokens=16)
    reference = model.double()
    for row, score in zip(rows, scores, strict=True):
        logprobs, entropies = _oracle(reference, row)
        np.testing.assert_allclose(score.logprobs_T, logprobs, atol=1e-5)
        np.testing.assert_allclose(score.entropy_T, entropies, atol=1e-5)
        np.testing.assert_allclose(score.phi_T, logprobs + entropies, atol=2e-5)


def test_scores_do_not_depend_on_the_batch() -> None:
    model, rows = _model(), _rows(12)
    together = score_rows(model, rows, batch_tokens=100_000)
    for row, score in zip(rows, together, strict=True):
        (alone,) = score_rows(model, [row], batch_tokens=1)
        np.testing.assert_allclose(score.logprobs_T, alone.logprobs_T, atol=1e-5)


def test_batches_keep_the_budget_and_leave_the_model_as_it_was() -> None:
    model, rows = _model(), _rows(30)
    shapes = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    score_rows(model, rows, batch_tokens=150)
    hook.remove()
    shapes = [shape for shape in shapes if shape != (1, NUM_PROBE_TOKENS)]  # of the head, before the rows
    assert sum(shape[0] for shape in shapes) == len(rows)
    assert all(shape.numel() <= 150 for shape in shapes)
    assert len(shapes) < len(rows) / 2
    assert all(parameter.grad is None for parameter in model.parameters())


class LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation gives."""

    num_elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.num_elements = max([self.num_elements, *sizes])
        return result


def test_no_tensor_has_tokens_times_vocabulary() -> None:
    vocabulary, num_tokens = 60_000, 850
    model = _model(vocab_size=vocabulary, hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    rng = np.random.default_rng(2)
    sizes = []
    for length in (num_tokens, num_tokens + 200):
        ids = rng.integers(vocabulary, size=length + 1).tolist()
        with LargestTensor() as largest:
            score_rows(model, [(ids[:1], ids[1:])], batch_tokens=length)
        sizes.append(largest.num_elements)
    assert sizes[0] == sizes[1], "a longer text takes no more room"
    assert vocabulary <= sizes[0] <= chunk_size.CPU.num_bytes // 4 < vocabulary * num_tokens


def test_own_samples_have_phi_near_zero() -> None:
    """The theorem behind phi, on samples drawn from the model itself at temperature 1."""
    model = _model()
    torch.manual_seed(3)
    ids = torch.randint(VOCABULARY, (400, 3))
    with torch.no_grad():
        for _ in range(16):
            logits = model(input_ids=ids).logits[:, -1]
            ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    scores = score_rows(model, [(row[:3], row[3:]) for row in ids.tolist()])
    phi = np.array([score.phi_T.mean() for score in scores])
    assert abs(phi.mean()) < 4 * phi.std() / np.sqrt(len(phi))


def test_models_whose_logits_are_bent_are_refused() -> None:
    model = _model()
    model.lm_head.register_forward_hook(lambda module, args, logits: logits + logits.square())
    with pytest.raises(ModelError, match="not its last hidden states times its head"):
        score_rows(model, _rows(1))


def test_hidden_states_of_another_precision_than_the_heads_are_scored() -> None:
    """Mamba's stay in fp32."""
    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4)
    ).eval()
    whole, half = (score_rows(model.to(dtype), _rows(3)) for dtype in (torch.float32, torch.bfloat16))
    for one, other in zip(whole, half, strict=True):
        np.testing.assert_allclose(one.logprobs_T, other.logprobs_T, atol=0.1)


def test_rows_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1"):
        score_rows(_model(), [([1], [2]), ([1], [])])
    assert score_rows(_model(), []) == []
