"""Measures how much memory this process has needed."""

from pathlib import Path

__all__ = ["peak_rss_mb", "peak_rss_mib"]


def peak_rss_mb() -> float:
    """Returns the highest resident memory of this program so far, in units of 10⁶ bytes."""
    return peak_rss_mib() * 2**20 / 1e6


def peak_rss_mib() -> float:
    """Returns the highest resident memory of this program so far, in units of 2²⁰ bytes. Linux only.

    getrusage would not do: after a fork and exec its value starts from the parent's.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
