"""Readers of a live page that hold their connection as the worst of browsers and networks do."""

import socket
import struct
import threading
from contextlib import suppress
from enum import StrEnum
from urllib.parse import urlsplit

__all__ = ["Manner", "SlowReader"]

REQUEST = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BYTES_PER_TURN, TURN_S = 64, 0.5


class Manner(StrEnum):
    SLOW = "a few bytes a second"
    DEAF = "asks and reads nothing"
    HALF = "sends half a request"
    GONE = "asks and resets the connection"


class SlowReader:
    """Holds one connection until `close`; with Manner.GONE it is gone at once."""

    def __init__(self, url: str, manner: Manner) -> None:
        address = urlsplit(url)
        self._ended = threading.Event()
        self._socket = socket.create_connection((address.hostname or "", address.port or 80))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.sendall((REQUEST if manner is Manner.HALF else f"{REQUEST}\r\n").encode())
        self._thread = threading.Thread(target=self._read, name="slow reader", daemon=True)
        match manner:
            case Manner.SLOW:
                self._thread.start()
            case Manner.GONE:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._socket.close()

    def _read(self) -> None:
        with suppress(OSError):
            while not self._ended.wait(TURN_S) and self._socket.recv(BYTES_PER_TURN):
                pass

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
