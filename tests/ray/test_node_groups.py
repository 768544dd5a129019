"""On three Ray nodes of this machine: stages stay in their group, and a node that goes is told to Ray."""

import sys
from collections.abc import Iterator

import pytest
import ray
from ray._private.state import state

from cluster.local_cluster import LocalCluster, local_cluster
from drsft.config import Resources
from drsft.stages.actors import actor_resources, group_labels, quiet_ray_data
from drsft.stages.preemption import announce, wait_until_idle

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with local_cluster({"rollout": 2, "training": 2}) as started:
        ray.init(started.address, log_to_driver=False)
        try:
            yield started
        finally:
            ray.shutdown()


class Place:
    """Says where it is; as a stage's actor and as a worker of training."""

    def __call__(self, batch: dict) -> dict:
        return batch | {"node": [self.node() for _ in batch["id"]]}

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def announce(self, seconds: float) -> str:
        return announce(seconds=seconds)


def test_stages_stay_in_their_group_and_a_node_that_goes_is_told(cluster: LocalCluster) -> None:
    nodes = {node["Labels"].get("drsft.io/group"): node["NodeID"] for node in ray.nodes()}
    quiet_ray_data()
    rows = ray.data.range(4, override_num_blocks=4).map_batches(
        Place,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=2),
        **actor_resources(Resources(rewrite_group="rollout", cpus_per_actor=0.5)),
    )
    assert {row["node"] for row in rows.take_all()} == {nodes["rollout"]}

    worker = ray.remote(Place).options(num_cpus=1, label_selector=group_labels("training")).remote()
    assert ray.get(worker.node.remote()) == nodes["training"]
    assert ray.get(worker.announce.remote(60)) == nodes["training"]
    assert state.get_draining_nodes().keys() == {nodes["training"]}, "what training's checkpoint waits for"
    assert not wait_until_idle(nodes["training"], seconds=1), "its worker is still there"
    ray.kill(worker)
    assert wait_until_idle(nodes["training"], seconds=30)
