"""What is left open is settled by the nodes that Ray shows; Ray takes given numbers of GPUs for true."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from drsft.config import Engine, Resources, Target
from drsft.stages.settled_resources import settled_resources

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TARGET = Target(model="embedded", dtype="float32", max_model_len=256, engine=Engine(max_num_seqs=8))


@contextmanager
def ray_with(*, num_cpus: int, num_gpus: int) -> Iterator[None]:
    ray.init("local", num_cpus=num_cpus, num_gpus=num_gpus, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.parametrize("num_gpus", [0, 1, 8])
def test_engines_and_training_use_the_machine_without_a_setting(num_gpus: int) -> None:
    with ray_with(num_cpus=17, num_gpus=num_gpus):
        found = settled_resources(TARGET, Resources())
        reserved = settled_resources(TARGET, Resources(), reserved_cpus=15)
        given = Resources(rewrite_actors=3, cpus_per_actor=0.5, gpus_per_actor=0, train_workers=2)
        kept = settled_resources(TARGET, given)
    assert found.gpus_per_actor == min(num_gpus, 1)
    assert found.train_workers == max(num_gpus, 1)
    assert found.gpus_per_train_worker == min(num_gpus, 1)
    if num_gpus:
        assert found.rewrite_actors == num_gpus
    else:
        assert found.rewrite_actors > 1, "a tiny model has an engine for each processor, as memory allows"
        assert reserved.rewrite_actors <= 2
    assert kept.engine_share == given.engine_share
    assert kept.train_workers == 2
