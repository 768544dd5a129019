"""Restricts a service to this machine: checks the client's address and the request's Host header."""

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LoopbackNames", "is_loopback"]

_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")


class LoopbackNames:
    """Middleware that rejects requests (403) whose Host header does not name this machine.

    A web page could otherwise point its own name at this machine to reach a service without keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _means_loopback(Headers(scope=scope).get("host", "")):
            raise HTTPException(
                403,
                "the service answers on this machine only; use localhost or a loopback address in the URL",
            )
        await self._app(scope, receive, send)


def _means_loopback(host: str) -> bool:
    """Returns whether a Host header, with or without a port, names this machine."""
    match = _HOST.fullmatch(host)
    name = (match["ipv6"] or match["name"]).lower() if match else ""
    return name == "localhost" or is_loopback(name)


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
