"""Tells when an engine that starts in this process has read its weights: vLLM says so in its log only."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["weights_read"]

_LOADER = "vllm.model_executor.model_loader.default_loader"  # of vLLM 0.32


class _Notice(logging.Handler):
    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Loading weights took"):
            self._call()


@contextmanager
def weights_read(call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` when the weights of an engine that is built in the block are read.

    Not for an engine with workers in other processes.
    """
    logger, notice = logging.getLogger(_LOADER), _Notice(call)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(notice)
    try:
        yield
    finally:
        logger.removeHandler(notice)
        logger.setLevel(level)
