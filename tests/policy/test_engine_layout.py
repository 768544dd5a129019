"""Without a setting engines use the processors or GPUs that there are, within memory; what is given stays."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Engine, Resources
from drsft.policy.cache_size import ModelSize
from drsft.policy.engine_layout import SHARE_OF_MEMORY, Node, engine_layout, engine_mib


def model(num_parameters: int, *, bytes_per_value: int = 2) -> ModelSize:
    return ModelSize(
        num_parameters=num_parameters,
        weight_bytes=num_parameters * bytes_per_value,
        cache_bytes_per_token=max(num_parameters // 6000, 100),
    )


SMALL = model(135_000_000)
GPU_NODE = Node(num_cpus=96, num_gpus=8, free_mib=500_000)
CPU_NODE = Node(num_cpus=2, num_gpus=0, free_mib=24_000)
ENGINE = Engine(max_num_seqs=32)


@pytest.mark.parametrize("num_gpus", [1, 2, 8])
def test_each_gpu_has_an_engine(num_gpus: int) -> None:
    node = Node(num_cpus=16 * num_gpus, num_gpus=num_gpus, free_mib=100_000)
    share = engine_layout(Resources(), ENGINE, SMALL, [node], max_model_len=1024)
    assert (share.num_workers, share.gpus, share.cpus) == (num_gpus, 1, 8)


def test_an_engine_takes_the_gpus_that_it_is_spread_over() -> None:
    spread = Engine(tensor_parallel_size=2, options={"pipeline_parallel_size": 2})
    share = engine_layout(Resources(), spread, SMALL, [GPU_NODE, CPU_NODE], max_model_len=1024)
    assert (share.num_workers, share.gpus) == (2, 4)


@given(
    cpus=st.integers(1, 128),
    gpus=st.integers(0, 16),
    free_mib=st.integers(500, 2_000_000),
    num_nodes=st.integers(1, 5),
    num_parameters=st.integers(100_000, 80_000_000_000),
)
def test_a_layout_can_be_placed_and_leaves_memory(
    cpus: int, gpus: int, free_mib: int, num_nodes: int, num_parameters: int
) -> None:
    nodes = [Node(num_cpus=cpus, num_gpus=gpus, free_mib=free_mib)] * num_nodes
    size = model(num_parameters)
    share = engine_layout(Resources(), ENGINE, size, nodes, max_model_len=1024)
    per_node = -(-share.num_workers // num_nodes)
    assert per_node * share.gpus <= gpus
    assert per_node * share.cpus <= cpus
    assert share.cpus > 0
    if not gpus and per_node > 1:
        assert per_node * engine_mib(ENGINE, size, max_model_len=1024) <= SHARE_OF_MEMORY * free_mib


@given(cpus=st.integers(1, 64), num_parameters=st.integers(100_000, 10_000_000_000))
def test_with_memory_enough_no_half_of_the_processors_is_idle(cpus: int, num_parameters: int) -> None:
    node = Node(num_cpus=cpus, num_gpus=0, free_mib=10**9)
    share = engine_layout(Resources(), ENGINE, model(num_parameters), [node], max_model_len=1024)
    assert share.num_workers * share.cpus > cpus / 2


@given(
    actors=st.none() | st.integers(1, 9),
    cpus=st.none() | st.integers(1, 9),
    gpus=st.none() | st.integers(0, 4),
)
def test_what_is_given_is_kept(actors: int | None, cpus: int | None, gpus: int | None) -> None:
    given_ones = Resources(rewrite_actors=actors, cpus_per_actor=cpus, gpus_per_actor=gpus)
    for nodes in ([], [CPU_NODE], [GPU_NODE]):
        share = engine_layout(given_ones, ENGINE, SMALL, nodes, max_model_len=1024)
        assert actors in (None, share.num_workers)
        assert cpus in (None, share.cpus)
        assert gpus in (None, share.gpus)


@given(
    cpus=st.integers(1, 64),
    num_nodes=st.integers(1, 4),
    actors=st.integers(1, 40),
    num_parameters=st.integers(100_000, 10**10),
)
def test_a_given_number_of_engines_finds_room_for_all(
    cpus: int, num_nodes: int, actors: int, num_parameters: int
) -> None:
    nodes = [Node(num_cpus=cpus, num_gpus=0, free_mib=10**9)] * num_nodes
    asked = Resources(rewrite_actors=actors)
    share = engine_layout(asked, ENGINE, model(num_parameters), nodes, max_model_len=1024)
    assert -(-actors // num_nodes) * share.cpus <= cpus


def test_a_cluster_without_nodes_yet_and_a_model_of_unknown_size_have_an_engine() -> None:
    assert engine_layout(Resources(), ENGINE, SMALL, [], max_model_len=1024).num_workers == 1
    share = engine_layout(Resources(), ENGINE, None, [replace(CPU_NODE, num_cpus=4)], max_model_len=1024)
    assert (share.num_workers, share.cpus) == (1, 4)
