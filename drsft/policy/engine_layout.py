"""Decides how many engines run side by side, and how many threads or GPUs each gets, where the settings are
null.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from drsft.config import Engine, Resources, WorkerShare
from drsft.policy.cache_size import ModelSize

__all__ = ["PROCESS_MIB", "TINY", "Node", "engine_layout", "engine_mib", "num_devices", "threads_per_engine"]

MIB = 1 << 20
SHARE_OF_MEMORY = 0.6  # for engines; the rest is Ray's, the verifiers' and the system's
MAX_CPUS_BESIDE_GPU = 8
PROCESS_MIB = 1700  # of an engine's process beside weights and cache, with its verifier's; docs/benchmarks.md
TINY = 20_000_000  # parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine that engines may run on."""

    num_cpus: float
    num_gpus: int
    free_mib: int


def engine_layout(
    given: Resources,
    engine: Engine,
    model: ModelSize | None,
    nodes: Sequence[Node],
    *,
    max_model_len: int,
) -> WorkerShare:
    """Returns the number of engines, and the processors and GPUs of each; values that are set in `given` are
    kept.

    With GPUs there is one engine for each GPU, or for each set of GPUs that an engine is spread over. Without
    GPUs there are as many as processors and memory allow, each with the useful number of threads for a model
    of this size; if `model` is None (size unknown), one engine gets all processors of a node.
    """
    gpus = given.gpus_per_actor
    if gpus is None:
        gpus = num_devices(engine) if any(node.num_gpus for node in nodes) else 0
    if gpus:
        fitting = sum(int(node.num_gpus // gpus) for node in nodes)
        num_engines = given.rewrite_actors or max(fitting, 1)
        cpus = given.cpus_per_actor or _cpus_beside_gpus(nodes, gpus)
        return WorkerShare(num_workers=num_engines, cpus=cpus, gpus=gpus)
    most_cpus = max((node.num_cpus for node in nodes), default=1.0)
    threads = threads_per_engine(model.num_parameters if model else None, most_cpus)
    cpus = given.cpus_per_actor or min(threads, _room(nodes, given.rewrite_actors or 1))
    needed_mib = engine_mib(engine, model, max_model_len=max_model_len) if model else 0
    fitting = sum(_fitting(node, cpus, needed_mib) for node in nodes)
    return WorkerShare(num_workers=given.rewrite_actors or max(fitting, 1), cpus=cpus, gpus=0)


def threads_per_engine(num_parameters: int | None, num_cpus: float) -> int:
    """Returns how many threads an engine gets on a node with `num_cpus` processors.

    A model below 20 million parameters gets 1, since its steps are too short to parallelise. Other models,
    and those of unknown size (None), get as many as the node has processors.
    """
    is_tiny = num_parameters is not None and num_parameters < TINY
    return 1 if is_tiny else max(int(num_cpus), 1)


def engine_mib(engine: Engine, model: ModelSize, *, max_model_len: int) -> int:
    """Returns the MiB that an engine on a CPU needs in total: its process, the weights, and the KV cache (as
    configured, else for `max_num_seqs` full sequences).
    """
    cache_bytes = max_model_len * model.cache_bytes_per_token * engine.max_num_seqs
    cache_mib = engine.kv_cache_mib or cache_bytes // MIB
    return model.weight_bytes // MIB + cache_mib + PROCESS_MIB


def _room(nodes: Sequence[Node], num_engines: int) -> float:
    """Returns the processors that each of `num_engines` engines gets if they are spread over the nodes."""
    by_node = [node.num_cpus for node in nodes] or [1.0]
    per_node = -(-num_engines // len(by_node))
    share = min(by_node) / per_node if num_engines > 1 else max(by_node)
    return float(int(share)) if share >= 1 else share


def num_devices(engine: Engine) -> int:
    """Returns the number of GPUs that one engine is spread over, by tensor and pipeline parallelism."""
    stages = engine.options.get("pipeline_parallel_size", 1)
    return engine.tensor_parallel_size * (stages if isinstance(stages, int) else 1)


def _cpus_beside_gpus(nodes: Sequence[Node], gpus: float) -> float:
    """Returns an engine's processors on the node with fewest per GPU; one is left for Ray Data's tasks."""
    least = min(
        (
            (node.num_cpus - min(1, node.num_cpus / 2)) / (node.num_gpus // gpus)
            for node in nodes
            if node.num_gpus >= gpus
        ),
        default=1.0,
    )
    return min(int(least), MAX_CPUS_BESIDE_GPU) if least >= 1 else least


def _fitting(node: Node, cpus: float, needed_mib: int) -> int:
    by_memory = SHARE_OF_MEMORY * node.free_mib // needed_mib if needed_mib else 1
    return int(min(node.num_cpus // cpus, by_memory))
