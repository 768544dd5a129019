"""The attention of a training, tried in its precision: what is rounding passes, what is wrong does not."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig

from drsft.errors import ModelError
from drsft.train import attention_parity
from drsft.train.attention import AttentionShape, DocumentSpans, attend_by_document, document_attention
from drsft.train.attention_parity import LENGTHS, LIMIT, attention_errors, check_attention

CPU = torch.device("cpu")
SHAPES = [
    AttentionShape(num_heads=8, num_groups=2, key_size=64, value_size=64, window=None, scaling=None),
    AttentionShape(num_heads=4, num_groups=4, key_size=36, value_size=36, window=None, scaling=0.3),
    AttentionShape(num_heads=4, num_groups=1, key_size=48, value_size=32, window=4096, scaling=None),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.num_heads} of {shape.key_size}")
def test_what_training_uses_differs_from_fp32_by_rounding_alone(shape: AttentionShape) -> None:
    assert max(attention_errors(shape, CPU, torch.float32).values()) < 1e-5
    errors = attention_errors(shape, CPU, torch.bfloat16)
    assert len(errors) == 4
    assert 1e-4 < max(errors.values()) < LIMIT
    check_attention([shape], CPU, torch.bfloat16, model="tiny")


def documents_mixed(*args: Any, document_spans: DocumentSpans, **kwargs: Any) -> tuple[Tensor, None]:
    return document_attention(*args, document_spans=DocumentSpans.of([sum(LENGTHS)], CPU), **kwargs)


def window_forgotten(*args: Any, sliding_window: int | None = None, **kwargs: Any) -> tuple[Tensor, None]:
    return document_attention(*args, **kwargs)


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient / 2


def gradient_halved(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    return document_attention(module, query, Halved.apply(key), value, *args, **kwargs)


def test_an_attention_that_is_wrong_is_found() -> None:
    full, windowed = SHAPES[0], SHAPES[2]
    for shape, attend in ((full, documents_mixed), (windowed, window_forgotten)):
        assert attention_errors(shape, CPU, torch.float32, attend=attend)["the result"] > LIMIT
    errors = attention_errors(full, CPU, torch.float32, attend=gradient_halved)
    wrong = {name for name, error in errors.items() if error > LIMIT}
    assert wrong == {"the gradient of the key"}, "a forward alone would not have shown it"


def test_what_cannot_run_or_is_off_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    uneven = AttentionShape(num_heads=3, num_groups=2, key_size=8, value_size=8, window=None, scaling=None)
    with pytest.raises(ModelError, match=r"does not run on cpu in torch.bfloat16: .*target\.dtype") as found:
        check_attention([uneven], CPU, torch.bfloat16, model="tiny")
    assert "\n" not in str(found.value)
    monkeypatch.setattr(attention_parity, "LIMIT", 1e-6)
    exact = AttentionShape(num_heads=2, num_groups=2, key_size=8, value_size=8, window=None, scaling=None)
    with pytest.raises(ModelError, match=r"is off by .* in the (result|gradient of the \w+) .*target\.dtype"):
        check_attention([exact], CPU, torch.bfloat16, model="tiny")


def test_a_models_trial_tells_how_its_layers_call_the_attention() -> None:
    config = MistralConfig(
        vocab_size=61, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=4096,
    )  # fmt: skip
    (shape,) = attend_by_document(AutoModelForCausalLM.from_config(config))
    assert (shape.num_heads, shape.num_groups, shape.key_size, shape.value_size) == (4, 2, 8, 8)
    assert (shape.window, shape.scaling) == (4096, pytest.approx(8**-0.5))
