"""Chooses engines, threads and training workers that are null in the configuration, by the cluster's
resources.
"""

from collections.abc import Iterator

import ray

from drsft.config import Resources, Target
from drsft.errors import ModelError
from drsft.policy.cache_size import ModelSize, free_memory_bytes, model_size
from drsft.policy.engine_layout import Node, engine_layout
from drsft.policy.prompts import model_location
from drsft.stages.actors import GROUP_LABEL

__all__ = ["settled_resources"]

MIB = 1 << 20


def settled_resources(target: Target, given: Resources, *, reserved_cpus: float = 0) -> Resources:
    """Returns the resources with a value for every setting that is null; given settings do not change.

    Nodes that an autoscaling cluster has not started yet do not count.

    `reserved_cpus` of this machine are kept for other work than engines.
    """
    engines = engine_layout(
        given,
        target.engine,
        _size_or_none(target),
        list(_nodes(given.rewrite_group, reserved_cpus)),
        max_model_len=target.max_model_len,
    )
    most_gpus = max((node.num_gpus for node in _nodes(given.train_group)), default=0)
    return given.with_defaults_from(
        Resources(
            rewrite_actors=engines.num_workers,
            cpus_per_actor=engines.cpus,
            gpus_per_actor=engines.gpus,
            train_workers=min(max(most_gpus, 1), given.max_train_workers or max(most_gpus, 1)),
            gpus_per_train_worker=1 if most_gpus else 0,
        )
    )


def _size_or_none(target: Target) -> ModelSize | None:
    """Returns the model's size; None if its config.json does not state it in a known way."""
    try:
        return model_size(model_location(target.model), target.dtype)
    except (ModelError, AttributeError, TypeError):
        return None


def _nodes(group: str | None, reserved_cpus: float = 0) -> Iterator[Node]:
    """Yields the cluster's nodes that may be used; for this machine, with the memory that is free now."""
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        has, labels = node["Resources"], node.get("Labels") or {}
        if not node["Alive"] or not has.get("CPU") or group not in (None, labels.get(GROUP_LABEL)):
            continue
        is_here = node["NodeID"] == here
        cpus = has["CPU"] - (reserved_cpus if is_here else 0)
        memory = free_memory_bytes() if is_here else has.get("memory", 0)
        if cpus > 0:
            yield Node(num_cpus=cpus, num_gpus=int(has.get("GPU", 0)), free_mib=int(memory) // MIB)
