"""The phases of starting an engine or a scoring model. Only vLLM's log shows when the weights have
been read.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

__all__ = ["EnginePhase", "OnPhase", "weights_read"]

_LOADER = "vllm.model_executor.model_loader.default_loader"  # of vLLM 0.32


class EnginePhase(StrEnum):
    LOADING = "loading vLLM"
    STARTING = "starting workers"  # in separate processes, which do not report their phase
    READING = "reading weights"
    COMPILING = "compiling"
    WARMING_UP = "warming up"
    READY = "waiting for work"
    FIRST_TOKENS = "first tokens"
    SAMPLING = "sampling"
    SCORING = "scoring"  # a model that does not sample


OnPhase = Callable[[EnginePhase], None]


class _Notice(logging.Handler):
    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Loading weights took"):
            self._call()


@contextmanager
def weights_read(call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` when an engine built inside the block has read its weights.

    It does not work for an engine whose workers are other processes.
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
