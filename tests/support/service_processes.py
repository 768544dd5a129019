"""The processes of a running service."""

import psutil

__all__ = ["engine_processes"]


def engine_processes(service: psutil.Process, name: str) -> list[psutil.Process]:
    """The replicas of a deployment, by the title that Ray gives them."""
    return [
        child
        for child in service.children(recursive=True)
        if _title(child) == f"ray::ServeReplica:drsft:{name}"
    ]


def _title(process: psutil.Process) -> str:
    try:
        return str((process.cmdline() or [""])[0]).split(".", 1)[0].strip()
    except psutil.Error:
        return ""
