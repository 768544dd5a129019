"""A driver whose cluster's head is gone.

Ray looks for the head for a while (RAY_gcs_rpc_server_reconnect_timeout_s), then ends the driver from within
C++: with code 1, and without a word that a user would see. So the driver looks too, and ends in order before.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from drsft.errors import StageError
from drsft.interrupts import interrupt, interruptible

__all__ = ["with_a_head"]

_RAY_WAITS = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAY_WAITS_S = 60.0  # its default
_SHARE = 0.7  # of it: a head that is only restarted comes back earlier
_LOOK_S = 1.0


@contextmanager
def with_a_head(address: str) -> Iterator[threading.Event]:
    """Raises StageError in the block once nothing has answered at the head's `address` for too long.

    The event tells whether that has happened.
    """
    ended = threading.Event()
    with interruptible() as is_lost:
        thread = threading.Thread(target=_watch, args=(address, ended, is_lost), name="head", daemon=True)
        thread.start()
        try:
            yield is_lost
        except BaseException:  # what the interrupt was turned into, or what Ray said at the same moment
            if not is_lost.is_set():
                raise
        finally:
            ended.set()
            thread.join()
    if is_lost.is_set():
        raise StageError(
            f"the head of the Ray cluster at {address} is gone; with a cluster there again, the same command "
            "goes on"
        )


def _watch(address: str, ended: threading.Event, is_lost: threading.Event) -> None:
    waits_s = _SHARE * float(os.environ.get(_RAY_WAITS, _RAY_WAITS_S))
    heard_s = time.monotonic()
    while not ended.wait(_LOOK_S):
        if _answers(address):
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > waits_s:
            interrupt(is_lost)
            return


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_S).close()
    except OSError:
        return False
    return True
