"""What this machine offers: processors, memory, GPUs."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "this_machine"]

MIB = 1 << 20
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    num_cpus: int
    memory_mib: int  # free for new processes
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
        gpu_memory_mib=tuple(
            torch.cuda.get_device_properties(index).total_memory // MIB for index in range(num_gpus)
        ),
    )


def _free_memory_mib() -> int:
    """What the system has available, or the container, where that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):  # no such group, or its limit is "max"
        available = min(available, int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text()))
    return available // MIB
