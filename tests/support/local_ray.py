"""A Ray of its own for the tests of one file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from rich.console import Console

from drsft.stages.actors import quiet_ray_data
from drsft.stages.cluster import connected, quiet_stderr

__all__ = ["local_ray"]


@contextmanager
def local_ray(module: str) -> Iterator[None]:
    """Connects to a local Ray for the length of the block. Its workers get what they need of `module`, the
    test file's `__name__`, by value: they cannot import it."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[module])
    with quiet_stderr(Console(stderr=True)), connected():
        quiet_ray_data()
        yield
