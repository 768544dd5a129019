"""How much memory this process has needed."""

from pathlib import Path

__all__ = ["peak_rss_mb", "peak_rss_mib"]


def peak_rss_mb() -> float:
    """Highest resident set of this program so far, 10⁶ bytes."""
    return peak_rss_mib() * 2**20 / 1e6


def peak_rss_mib() -> float:
    """The same in 2²⁰ bytes. Linux only.

    Not getrusage's: after a fork and exec that one begins with the parent's.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
