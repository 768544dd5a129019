"""Answers given again: the same Idempotency-Key, or the same content with a fixed seed, samples once.

A request that is still under way is joined, not repeated. Memory of one ingress replica; the oldest go first.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serve.api import RewriteRequest, RewriteResult

__all__ = ["Conflict", "Replay", "content_key"]


class Conflict(Exception):  # noqa: N818 - an answer, not a fault
    """One idempotency key was used for two different requests."""


def content_key(request: RewriteRequest) -> str:
    return hashlib.blake2b(
        request.model_dump_json(exclude={"deadline_s"}).encode(), digest_size=16
    ).hexdigest()


@dataclass(frozen=True, slots=True)
class _Entry:
    content: str
    result: "asyncio.Future[RewriteResult]"
    until_s: float


class Replay:
    def __init__(
        self, *, max_entries: int, keep_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries, self._keep_s, self._clock_s = max_entries, keep_s, clock_s
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    async def run(
        self,
        owner: str,
        request: RewriteRequest,
        idempotency_key: str | None,
        work: Callable[[], Awaitable[RewriteResult]],
    ) -> tuple[RewriteResult, bool]:
        """The result, and whether it was there already. `owner` keeps callers' answers apart.

        Raises Conflict when the key came with another request before. What fails or is cut off is forgotten.
        """
        content = content_key(request)
        name = idempotency_key or (content if request.seed is not None else None)
        if name is None or not self._max_entries:
            return await work(), False
        slot = (owner, f"{'key' if idempotency_key else 'content'}:{name}")
        self._forget_old()
        known = self._entries.get(slot)
        if known is not None:
            if known.content != content:
                raise Conflict("this Idempotency-Key came with another request before; use a new one")
            try:
                return await asyncio.shield(known.result), True
            except asyncio.CancelledError:
                if not known.result.cancelled():
                    raise  # this caller went away, not the one that it had joined
        return await self._first(slot, content, work), False

    async def _first(
        self, slot: tuple[str, str], content: str, work: Callable[[], Awaitable[RewriteResult]]
    ) -> RewriteResult:
        future: asyncio.Future[RewriteResult] = asyncio.get_running_loop().create_future()
        self._entries[slot] = _Entry(content, future, self._clock_s() + self._keep_s)
        try:
            result = await work()
        except BaseException as error:
            self._entries.pop(slot, None)
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # whoever joined gets it; nobody needs to
            else:
                future.cancel()
            raise
        future.set_result(result)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return result

    def _forget_old(self) -> None:
        now_s = self._clock_s()
        while self._entries and next(iter(self._entries.values())).until_s <= now_s:
            self._entries.popitem(last=False)
