"""Tells Ray that this node will be removed, and waits until its work has moved or the time is up.

    python -m drsft.stages.preemption --seconds 100

It is the preStop hook of the pods in k8s/. Ray schedules nothing new on the node, Serve moves its replicas,
and training saves a checkpoint after its current step, so that no step is lost.
"""

import argparse
import logging
import time

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.core.generated import autoscaler_pb2
from ray.util.state import list_actors

__all__ = ["announce", "wait_until_idle"]

POLL_S = 1.0


def announce(*, seconds: float) -> str:
    """Tells Ray that the node of this process will be removed in `seconds`; returns the node's id.

    Raises RuntimeError if the cluster rejects this.
    """
    context = ray.get_runtime_context()
    deadline_ms = int((time.time() + seconds) * 1000)
    is_accepted, reason = GcsClient(address=context.gcs_address).drain_node(
        context.get_node_id(),
        autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
        "the machine is being taken away",
        deadline_ms,
    )
    if not is_accepted:
        raise RuntimeError(f"the cluster rejects the removal of this node: {reason}")
    return str(context.get_node_id())


def wait_until_idle(node_id: str, *, seconds: float) -> bool:
    """Waits until no actor is left on the node; returns False if `seconds` passed first, else True.

    The autoscaler removes only nodes without actors, so for such a node it returns True at once.
    """
    deadline_s = time.monotonic() + seconds
    here = ray.get_runtime_context().gcs_address  # or it looks for the one cluster of this machine
    alive = [("node_id", "=", node_id), ("state", "=", "ALIVE")]
    while list_actors(here, filters=alive, limit=1):
        if time.monotonic() + POLL_S > deadline_s:
            return False
        time.sleep(POLL_S)  # Ray has no event for it
    return True


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, required=True, help="until the machine goes; below the pod's grace period"
    )
    seconds = parser.parse_args().seconds
    ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    wait_until_idle(announce(seconds=seconds), seconds=seconds)


if __name__ == "__main__":
    _main()
