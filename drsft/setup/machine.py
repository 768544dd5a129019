"""What this machine offers: processors, memory, GPUs."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "has_fast_bfloat16", "this_machine"]

MIB = 1 << 20
_FAST_BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # flags of a processor that multiplies it in hardware
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


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
        memory_mib=_free_memory_mib(),
        has_fast_bfloat16=has_fast_bfloat16(Path("/proc/cpuinfo").read_text()),
        gpu_memory_mib=tuple(
            torch.cuda.get_device_properties(index).total_memory // MIB for index in range(num_gpus)
        ),
    )


def has_fast_bfloat16(cpuinfo: str) -> bool:
    """Whether every processor of Linux's /proc/cpuinfo multiplies bfloat16 in hardware."""
    flags = [set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")]
    return bool(flags) and all(_FAST_BFLOAT16 & one for one in flags)


def _free_memory_mib() -> int:
    """What the system has available, or the container, where that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):  # no such group, or its limit is "max"
        available = min(available, int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text()))
    return available // MIB
