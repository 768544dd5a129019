"""What one process has needed of the host's memory, from Linux's own counters."""

import gc
from pathlib import Path

__all__ = ["WITHOUT_KERNEL_CACHES", "held_bytes", "peak_bytes", "restart_peak"]

# For a process that computes in bf16 on a CPU: oneDNN and torch each keep up to 1,024 kernels, one for each
# layer and number of tokens. Neither a GPU nor fp32 has these, and no plan counts them.
WITHOUT_KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1", "LRU_CACHE_CAPACITY": "1"}


def restart_peak() -> int:
    """Begins the peak anew; returns what the process holds now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _of("VmRSS")


def peak_bytes() -> int:
    """The highest resident set since `restart_peak`."""
    return _of("VmHWM")


def held_bytes(process: int) -> int:
    """What a process holds beside mapped files; 0 once it has ended."""
    try:
        return _of("RssAnon", process)
    except (OSError, StopIteration):
        return 0


def _of(counter: str, process: int | str = "self") -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{counter}:")).split()[1])
