"""Answers given again: the same Idempotency-Key, or the same content with a fixed seed, samples once.

A request that is still under way is joined, not repeated. Memory of one ingress replica; the oldest go first.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
        *,
        until_s: float | None = None,
    ) -> tuple[RewriteResult, bool]:
        """The result, and whether it was there already. `owner` keeps callers' answers apart.

        Whoever joins waits until `until_s` of the loop's time, whatever deadline the first one has. What is
        cut off, by its client or its deadline, is forgotten, and one of those that joined samples instead.
        Raises Conflict when the key came with another request before.
        """
        content = content_key(request)
        name = idempotency_key or (content if request.seed is not None else None)
        if name is None or not self._max_entries:
            return await work(), False
        slot = (owner, f"{'key' if idempotency_key else 'content'}:{name}")
        self._forget_old()
        async with asyncio.timeout_at(until_s):
            while (known := self._entries.get(slot)) is not None:
                if known.content != content:
                    raise Conflict("this Idempotency-Key came with another request before; use a new one")
                with suppress(_CutOff):
                    return await _joined(known.result), True
        return await self._first(slot, content, work), False

    async def _first(
        self, slot: tuple[str, str], content: str, work: Callable[[], Awaitable[RewriteResult]]
    ) -> RewriteResult:
        future: asyncio.Future[RewriteResult] = asyncio.get_running_loop().create_future()
        entry = self._entries[slot] = _Entry(content, future, self._clock_s() + self._keep_s)
        try:
            result = await work()
        except BaseException as error:
            if self._entries.get(slot) is entry:  # not forgotten, and begun again, in the meantime
                del self._entries[slot]
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


class _CutOff(Exception):  # noqa: N818 - the request that was joined ended without a word on this one
    pass


async def _joined(result: "asyncio.Future[RewriteResult]") -> RewriteResult:
    """The first one's result or failure; raises _CutOff where that says nothing of who joined."""
    try:
        return await asyncio.shield(result)
    except TimeoutError as error:
        raise _CutOff from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # this one's own client or deadline
        raise _CutOff from error
