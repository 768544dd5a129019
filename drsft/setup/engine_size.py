"""Decides how many engines, sequences and training workers a machine can hold for a model."""

from dataclasses import dataclass
from typing import Literal

from drsft.policy.engine_layout import PROCESS_MIB, TINY, threads_per_engine
from drsft.setup.machine import MIB, Machine
from drsft.setup.model_facts import ModelFacts

__all__ = ["EngineSize", "TrainSize", "cpu_dtype", "engine_size", "train_size"]

SHARE_OF_MEMORY = 0.5  # the rest is Ray's, the system's and the training's
MAX_CPU_SEQS, MIN_SEQS = 32, 4
BYTES_PER_TRAINED_PARAMETER = 16  # weights, gradient and AdamW's two moments in float32
LOGITS_MIB = 2000  # activations and a chunk of logits of one training worker


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    num_engines: int
    cpus_per_engine: int | None  # None: what is there beside the GPUs
    gpus_per_engine: int
    max_num_seqs: int | None  # None: the default
    kv_cache_mib: int | None  # None: vLLM takes what the GPU has
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSize:
    num_workers: int
    uses_adapters: bool


def cpu_dtype(model: ModelFacts, machine: Machine) -> Literal["float32", "bfloat16"]:
    """Returns bfloat16 if the processors support it in hardware and the model is not tiny, else float32."""
    return "bfloat16" if machine.has_fast_bfloat16 and model.num_parameters >= TINY else "float32"


def engine_size(model: ModelFacts, machine: Machine, *, max_model_len: int) -> EngineSize:
    if machine.num_gpus:
        return _on_gpus(model, machine)
    value_bytes = 2 if cpu_dtype(model, machine) == "bfloat16" else 4
    beside_cache_mib = model.num_parameters * value_bytes // MIB + PROCESS_MIB
    budget_mib = int(machine.memory_mib * SHARE_OF_MEMORY)
    sequence_mib = model.cache_values_per_token * value_bytes * max_model_len / MIB
    least_mib = beside_cache_mib + max(16, round(MIN_SEQS * sequence_mib))
    threads = threads_per_engine(model.num_parameters, machine.num_cpus)
    num_engines = max(1, min(machine.num_cpus // threads, budget_mib // least_mib))
    cache_mib = budget_mib // num_engines - beside_cache_mib
    num_seqs = max(MIN_SEQS, min(MAX_CPU_SEQS, int(cache_mib / sequence_mib)))
    return EngineSize(
        num_engines=num_engines,
        cpus_per_engine=threads,
        gpus_per_engine=0,
        max_num_seqs=num_seqs,
        kv_cache_mib=max(64, _rounded_up(round(num_seqs * sequence_mib), 64)),
        fits=least_mib <= budget_mib,
    )


def _on_gpus(model: ModelFacts, machine: Machine) -> EngineSize:
    """Returns the engine's size with as few GPUs as hold the bfloat16 weights and a useful cache."""
    weights_mib = model.num_parameters * 2 // MIB
    per_engine = 1
    while weights_mib > 0.6 * min(machine.gpu_memory_mib) * per_engine and per_engine < machine.num_gpus:
        per_engine *= 2
    per_engine = min(per_engine, machine.num_gpus)
    return EngineSize(
        num_engines=max(1, machine.num_gpus // per_engine),
        cpus_per_engine=None,
        gpus_per_engine=per_engine,
        max_num_seqs=None,
        kv_cache_mib=None,
        fits=weights_mib < 0.85 * min(machine.gpu_memory_mib) * per_engine,
    )


def train_size(model: ModelFacts, machine: Machine) -> TrainSize:
    """Returns how many workers share a training, and whether it trains LoRA adapters.

    It does if the weights, gradients and AdamW's state of the whole model do not fit in memory.
    """
    state_mib = model.num_parameters * BYTES_PER_TRAINED_PARAMETER // MIB
    if machine.num_gpus:
        room_mib = int(0.7 * sum(machine.gpu_memory_mib))
        return TrainSize(num_workers=machine.num_gpus, uses_adapters=state_mib > room_mib)
    room_mib = int(SHARE_OF_MEMORY * machine.memory_mib)
    fitting = (room_mib - state_mib) // LOGITS_MIB
    num_workers = max(1, min(machine.num_cpus, 4, fitting))
    return TrainSize(num_workers=1 << (num_workers.bit_length() - 1), uses_adapters=state_mib > room_mib)


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step
