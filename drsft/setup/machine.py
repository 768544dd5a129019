"""Measures what this machine has: processors, memory, GPUs."""

import os
from dataclasses import dataclass
from pathlib import Path

from drsft.policy.cache_size import free_memory_bytes

__all__ = ["Machine", "has_fast_bfloat16", "this_machine"]

MIB = 1 << 20
_FAST_BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # flags of a processor that multiplies it in hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    num_cpus: int
    memory_mib: int  # free for new processes
    has_fast_bfloat16: bool = False  # the processors
    gpu_memory_mib: tuple[int, ...] = ()  # of each GPU

    @property
    def num_gpus(self) -> int:
        return len(self.gpu_memory_mib)

    def __str__(self) -> str:
        gpus = f"{self.num_gpus} GPUs of {min(self.gpu_memory_mib) / 1024:.0f} GiB, " if self.num_gpus else ""
        return f"{gpus}{self.num_cpus} CPUs, {self.memory_mib / 1024:.0f} GiB of free memory"


def this_machine() -> Machine:
    import torch

    num_gpus = torch.cuda.device_count()
    return Machine(
        num_cpus=len(os.sched_getaffinity(0)),
        memory_mib=free_memory_bytes() // MIB,
        has_fast_bfloat16=has_fast_bfloat16(Path("/proc/cpuinfo").read_text()),
        gpu_memory_mib=tuple(
            torch.cuda.get_device_properties(index).total_memory // MIB for index in range(num_gpus)
        ),
    )


def has_fast_bfloat16(cpuinfo: str) -> bool:
    """Returns whether all processors multiply bfloat16 in hardware; `cpuinfo` is Linux's /proc/cpuinfo."""
    flags = [set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")]
    return bool(flags) and all(_FAST_BFLOAT16 & one for one in flags)
