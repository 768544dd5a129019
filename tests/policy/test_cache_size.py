"""The cache of an engine on a CPU: bounded by what is needed and by what is free."""

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from drsft.errors import ModelError
from drsft.policy.cache_size import ModelSize, cache_bytes, model_size
from drsft.policy.prompts import model_location

TINY = ModelSize(num_parameters=500_000, weight_bytes=2_000_000, cache_bytes_per_token=1_536)
SMALL = ModelSize(num_parameters=134_500_000, weight_bytes=538_000_000, cache_bytes_per_token=46_080)


def size(model: ModelSize, gib: float) -> int:
    return cache_bytes(model, free_bytes=int(gib * 2**30), max_model_len=4096, max_num_seqs=128)


@pytest.mark.parametrize("gib", [2, 4, 24, 512])
def test_the_cache_is_what_is_needed_or_a_quarter_of_what_is_free(gib: int) -> None:
    needed, free = 4096 * 128 * 46_080, gib * 2**30 - 538_000_000
    assert size(SMALL, gib) == min(needed, free // 4)
    assert size(TINY, 24) == 4096 * 128 * 1_536


def test_a_sequence_that_does_not_fit_is_refused_by_the_name_of_its_key() -> None:
    with pytest.raises(ModelError, match=r"^target\.max_model_len: .*target\.engine\.kv_cache_mib$"):
        size(SMALL, 0.7)


def test_the_size_of_a_model_is_that_of_its_tensors() -> None:
    location = model_location("embedded")
    found = model_size(location, "float32")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(location))
    counted = sum(one.numel() for one in model.parameters())
    assert abs(found.num_parameters - counted) < 0.01 * counted
    assert found.cache_bytes_per_token == 2 * 3 * 2 * 32 * 4  # keys and values, layers, heads, size, bytes
