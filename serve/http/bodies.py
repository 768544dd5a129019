"""Wraps ASGI receive functions: they limit a body's size and the time it takes, or replay a body that was
read before.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

__all__ = ["PREFETCHED_BODY", "READ_S", "ahead", "at_most", "in_time", "too_large"]

PREFETCHED_BODY = (
    "drsft.body"  # of the scope: the whole body, where the proxy sent it along (serve/ray/proxy.py)
)
# Keys are checked after the body has arrived, so any client can hold a slot for this long. The time is enough
# for a body of 256 KiB over a very slow line.
READ_S = 10.0


def too_large(max_bytes: int) -> HTTPException:
    """Returns the HTTPException (413) for a body that is too large.

    The rest of the body is not read, so the response closes the connection.
    """
    detail = f"the body has more than {max_bytes} bytes"
    return HTTPException(413, detail, headers={"Connection": "close"})


def at_most(max_bytes: int, receive: Receive) -> Receive:
    """Returns a receive function that counts the body's bytes, also of a body that does not state its length.

    It raises HTTPException (413) if there are more than `max_bytes`.
    """
    num_bytes = 0

    async def receive_counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        if message["type"] == "http.request":
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise too_large(max_bytes)
        return message

    return receive_counted


def in_time(limit_s: float, receive: Receive) -> Receive:
    """Returns a receive function that raises HTTPException (408) if the body takes longer than `limit_s`.

    Messages after the body, such as a disconnect, may come at any time.
    """
    until_s: float | None = asyncio.get_running_loop().time() + limit_s

    async def receive_in_time() -> Message:
        nonlocal until_s
        try:
            async with asyncio.timeout_at(until_s):
                message = await receive()
        except TimeoutError as error:
            detail = f"the body did not arrive within {limit_s:g} s"
            raise HTTPException(408, detail, headers={"Connection": "close"}) from error
        if not message.get("more_body", False):
            until_s = None
        return message

    return receive_in_time


def ahead(body: bytes, receive: Receive) -> Receive:
    """Returns a receive function that first gives `body`, and then whatever `receive` gives."""
    is_read = False

    async def receive_ahead() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_ahead
