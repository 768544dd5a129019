"""Engines, training workers and token limits fit the machine, the model and the data."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.errors import ModelError
from drsft.policy.engine_layout import PROCESS_MIB
from drsft.setup.engine_size import SHARE_OF_MEMORY, cpu_dtype, engine_size, train_size
from drsft.setup.machine import Machine, has_fast_bfloat16
from drsft.setup.model_facts import ModelFacts, read_model_facts
from drsft.setup.token_limits import TextTokens, token_limits

SMALL = ModelFacts(num_parameters=135_000_000, num_positions=8192, cache_values_per_token=11_520)
LARGE = ModelFacts(num_parameters=70_000_000_000, num_positions=131_072, cache_values_per_token=163_840)


@given(
    cpus=st.integers(1, 128),
    memory_mib=st.integers(1000, 2_000_000),
    parameters=st.integers(100_000, 20_000_000_000),
    length=st.integers(64, 32_768),
    is_fast=st.booleans(),
)
def test_engines_that_fit_stay_within_their_share_of_memory(
    cpus: int, memory_mib: int, parameters: int, length: int, is_fast: bool
) -> None:
    model = ModelFacts(num_parameters=parameters, num_positions=None, cache_values_per_token=4096)
    machine = Machine(num_cpus=cpus, memory_mib=memory_mib, has_fast_bfloat16=is_fast)
    size = engine_size(model, machine, max_model_len=length)
    assert size.cpus_per_engine is not None
    assert 1 <= size.num_engines * size.cpus_per_engine <= cpus
    assert size.kv_cache_mib is not None
    if size.fits:
        value_bytes = 2 if cpu_dtype(model, machine) == "bfloat16" else 4
        weights_mib = parameters * value_bytes / 2**20
        whole = size.num_engines * (weights_mib + PROCESS_MIB + size.kv_cache_mib - 128)
        assert whole <= SHARE_OF_MEMORY * memory_mib + 1


def test_gpus_hold_the_weights_and_take_the_engines_own_cache() -> None:
    machine = Machine(num_cpus=64, memory_mib=500_000, gpu_memory_mib=(80_000,) * 8)
    small = engine_size(SMALL, machine, max_model_len=1024)
    large = engine_size(LARGE, machine, max_model_len=1024)
    assert (small.num_engines, small.gpus_per_engine, small.kv_cache_mib) == (8, 1, None)
    assert (large.num_engines, large.gpus_per_engine, large.fits) == (2, 4, True)


def test_adapters_are_trained_where_the_optimiser_does_not_fit() -> None:
    machine = Machine(num_cpus=2, memory_mib=16_000)
    assert not train_size(SMALL, machine).uses_adapters
    assert train_size(LARGE, machine).uses_adapters


def test_the_embedded_model_is_what_its_files_say() -> None:
    facts = read_model_facts("embedded")
    assert facts == ModelFacts(num_parameters=543_360, num_positions=1024, cache_values_per_token=384)


@settings(deadline=None)
@given(
    texts=st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 300), st.integers(1, 400)), min_size=1, max_size=50
    ),
    positions=st.none() | st.integers(1100, 8192),
)
def test_every_problem_fits_and_completions_have_room(
    texts: list[tuple[int, int, int]], positions: int | None
) -> None:
    plain = tuple(prompt for prompt, _, _ in texts)
    guided = tuple(prompt + more for prompt, more, _ in texts)
    demonstrations = tuple(solution for _, _, solution in texts)
    tokens = TextTokens(plain=plain, guided=guided, demonstrations=demonstrations)
    limits = token_limits(tokens, num_positions=positions, has_solutions=True)
    longest = max(prompt + solution for prompt, solution in zip(plain, demonstrations, strict=True))
    assert longest <= limits.max_model_len <= (positions or limits.max_model_len)
    assert limits.p99_demonstration <= limits.max_tokens < limits.max_model_len
    assert longest <= limits.seq_len <= limits.max_model_len


def test_a_model_that_is_too_short_for_the_data_is_told() -> None:
    tokens = TextTokens(plain=(500,) * 4, guided=(900,) * 4, demonstrations=(400,) * 4)
    with pytest.raises(ModelError, match="1,024 positions"):
        token_limits(tokens, num_positions=1024, has_solutions=True)


def test_bfloat16_is_taken_where_every_processor_has_it_and_the_model_is_no_tiny_one() -> None:
    plain, with_amx = "flags\t\t: fpu avx512f\n", "flags\t\t: fpu avx512f avx512_bf16 amx_bf16\n"
    assert [has_fast_bfloat16(text) for text in (plain, with_amx, with_amx + plain, "")] == [
        False, True, False, False,
    ]  # fmt: skip
    fast = Machine(num_cpus=2, memory_mib=16_000, has_fast_bfloat16=True)
    assert cpu_dtype(SMALL, fast) == "bfloat16"
    assert cpu_dtype(SMALL, replace(fast, has_fast_bfloat16=False)) == "float32"
    assert cpu_dtype(replace(SMALL, num_parameters=500_000), fast) == "float32"
