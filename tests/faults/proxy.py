"""An HTTP proxy before the S3 servers that treats some requests as networks and stores do at their worst."""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Misdeed", "Proxy", "Rule", "running_proxy"]

ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'


class Misdeed(StrEnum):
    CUT = "network cut"  # nothing comes back until the rule ends, then a reset
    DELAY = "replies delayed"
    RESET = "connections reset"  # before the server sees the request
    HALF_REQUEST = "half-sent requests"  # the server gets half the body, the client a reset
    HALF_REPLY = "half-sent replies"
    REPLY_LOST = "replies lost"  # the server has done it, the client gets a reset
    ERROR_500 = "S3 answers 500"
    SLOW_DOWN = "S3 answers 503 SlowDown"
    STALE_LISTING = "stale listings"  # as the prefix was when it was first listed


@dataclass(slots=True, kw_only=True)
class Rule:
    """What happens to a share of the requests that name `scope`, until a time by time.monotonic()."""

    misdeed: Misdeed
    scope: str
    share: float
    until_s: float
    draws: random.Random = field(default_factory=random.Random)
    num_hits: int = 0

    def applies(self, method: str, target: str) -> bool:
        is_listing = method == "GET" and "list-type=2" in target
        return (
            time.monotonic() < self.until_s
            and self.scope in target
            and (self.misdeed is not Misdeed.STALE_LISTING or is_listing)
            and self.draws.random() < self.share
        )


@dataclass(slots=True)
class Proxy:
    """Listens on `port`; `rules` may change at any time; `listings` are the first of each prefix.

    `upstreams` are the ports of the servers, by bucket.
    """

    upstreams: Mapping[str, int]
    port: int = 0
    rules: list[Rule] = field(default_factory=list)
    listings: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def upstream_of(self, target: str) -> int:
        return self.upstreams[target.lstrip("/").partition("?")[0].partition("/")[0]]

    def rule_for(self, method: str, target: str) -> Rule | None:
        return next((rule for rule in list(self.rules) if rule.applies(method, target)), None)

    def forget(self, scope: str) -> int:
        """Drops the rules of a scope; how many requests they hit."""
        mine = [rule for rule in self.rules if rule.scope == scope]
        self.rules[:] = [rule for rule in self.rules if rule.scope != scope]
        return sum(rule.num_hits for rule in mine)


class _CutError(Exception):
    """The client's connection is to end without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _CutError:
            self._reset()
        except OSError:  # the client is gone, perhaps killed
            self.close_connection = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rule = self.server.proxy.rule_for(self.command, self.path)
        if rule is not None:
            rule.num_hits += 1
            match rule.misdeed:
                case Misdeed.CUT:
                    time.sleep(max(0.0, rule.until_s - time.monotonic()))
                    raise _CutError
                case Misdeed.DELAY:
                    time.sleep(rule.draws.uniform(0.2, 2.0))
                case Misdeed.RESET:
                    raise _CutError
                case Misdeed.HALF_REQUEST:
                    self._send_half(body)
                    raise _CutError
                case Misdeed.ERROR_500:
                    return self._reply(500, [], ERROR.format(code="InternalError").encode())
                case Misdeed.SLOW_DOWN:
                    return self._reply(503, [], ERROR.format(code="SlowDown").encode())
        status, headers, data = self._forward(body)
        if rule is not None:
            match rule.misdeed:
                case Misdeed.REPLY_LOST:
                    raise _CutError
                case Misdeed.HALF_REPLY:
                    self._reply(status, headers, data, cut_at=len(data) // 2)
                    raise _CutError
                case Misdeed.STALE_LISTING:
                    status, headers, data = self.server.proxy.listings.get(self.path, (status, headers, data))
        if "list-type=2" in self.path:
            self.server.proxy.listings.setdefault(self.path, (status, headers, data))
        self._reply(status, headers, data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def _upstream(self, *, timeout_s: float) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.server.proxy.upstream_of(self.path), timeout=timeout_s)

    def _head_lines(self, connection: HTTPConnection) -> None:
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":  # answered by us already
                connection.putheader(name, value)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = self._upstream(timeout_s=60)
        try:
            self._head_lines(connection)
            connection.endheaders(body or None)
            response: HTTPResponse = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        except (OSError, HTTPException) as error:
            raise _CutError from error  # the server is not there: neither are we
        finally:
            connection.close()

    def _send_half(self, body: bytes) -> None:
        connection = self._upstream(timeout_s=10)
        try:
            self._head_lines(connection)
            connection.endheaders(body[: len(body) // 2] or None)
        except OSError:
            pass
        finally:
            connection.close()

    def _reply(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut_at: int | None = None
    ) -> None:
        self.send_response_only(status)
        is_told = False
        for name, value in headers:
            is_length = name.lower() == "content-length"
            is_told = is_told or is_length
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if not is_told and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut_at])

    def _reset(self) -> None:
        """Ends the connection with a TCP reset instead of an orderly end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())
        except OSError:
            pass

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", proxy.port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what this is for."""


@contextmanager
def running_proxy(upstreams: Mapping[str, int]) -> Iterator[Proxy]:
    """A proxy before the servers on these ports, by bucket, in a thread of its own."""
    proxy = Proxy(upstreams)
    server = _Server(proxy)
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="s3-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
