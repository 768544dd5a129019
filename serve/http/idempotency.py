"""Reuses results: the same Idempotency-Key, or the same content with a fixed seed, samples only once.

A duplicate of a request in flight waits for the first one's result. The cache is in the memory of one ingress
replica; the oldest results are dropped first.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from serve.api import RewriteRequest, RewriteResult

__all__ = ["IdempotencyConflict", "ResultCache", "content_key"]

Slot = tuple[str, str]  # the caller and the key's name


class IdempotencyConflict(Exception):  # noqa: N818 - a response, not an error
    """One idempotency key was used for two different requests."""


def content_key(request: RewriteRequest) -> str:
    return hashlib.blake2b(
        request.model_dump_json(exclude={"deadline_s"}).encode(), digest_size=16
    ).hexdigest()


@dataclass(slots=True)
class _Entry:
    """A request in flight, then its result as JSON, which has a fifth of the objects and a known size."""

    until_s: float
    found: "asyncio.Future[RewriteResult] | bytes"

    @property
    def num_bytes(self) -> int:
        return len(self.found) if isinstance(self.found, bytes) else 0


class ResultCache:
    """Caches results for `keep_s` seconds, with two limits for all callers together.

    `max_entries` limits their number (0: no cache), `max_bytes` the size of their JSON.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        keep_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._keep_s, self._clock_s = keep_s, clock_s
        self._entries: OrderedDict[Slot, _Entry] = OrderedDict()
        self._contents: OrderedDict[Slot, tuple[str, float]] = OrderedDict()  # of idempotency keys
        self.num_bytes = 0

    async def run(
        self,
        owner: str,
        request: RewriteRequest,
        idempotency_key: str | None,
        work: Callable[[], Awaitable[RewriteResult]],
        *,
        until_s: float | None = None,
    ) -> tuple[RewriteResult, bool]:
        """Returns the result, and whether it came from an earlier equal request of the same `owner`.

        Calls `work` for a new request. A request that equals one in flight waits for that one's result, until
        `until_s` of the event loop's clock; if the first one is cancelled, by its client or its deadline, one
        of the waiting requests calls `work` instead. Raises IdempotencyConflict if the key was used with
        another request before.
        """
        if not self._max_entries or (idempotency_key is None and request.seed is None):
            return await work(), False
        self._forget_old()
        content = content_key(request)
        if idempotency_key is not None:
            self._check((owner, idempotency_key), content)
        # With a fixed seed the content alone determines the result, whatever key it came with.
        name = content if request.seed is not None else f"{content} {idempotency_key}"
        slot = (owner, name)
        async with asyncio.timeout_at(until_s):
            while (known := self._entries.get(slot)) is not None:
                with suppress(_Abandoned):
                    return await _joined(known.found), True
        return await self._first(slot, work), False

    def _check(self, key: Slot, content: str) -> None:
        known, _ = self._contents.setdefault(key, (content, self._clock_s() + self._keep_s))
        if known != content:
            raise IdempotencyConflict(
                "this Idempotency-Key was used with another request before; use a new one"
            )
        if len(self._contents) > self._max_entries:
            self._contents.popitem(last=False)

    async def _first(self, slot: Slot, work: Callable[[], Awaitable[RewriteResult]]) -> RewriteResult:
        future: asyncio.Future[RewriteResult] = asyncio.get_running_loop().create_future()
        entry = self._entries[slot] = _Entry(self._clock_s() + self._keep_s, future)
        try:
            result = await work()
        except BaseException as error:
            if self._entries.get(slot) is entry:  # unless it was dropped and started again meanwhile
                del self._entries[slot]
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # waiting duplicates, if any, get the error
            else:
                future.cancel()
            raise
        future.set_result(result)
        if self._entries.get(slot) is entry:
            entry.found = result.model_dump_json().encode()
            self.num_bytes += entry.num_bytes
            self._forget_excess()
        return result

    def _forget_excess(self) -> None:
        while len(self._entries) > self._max_entries or self.num_bytes > self._max_bytes:
            self._forget_oldest()

    def _forget_old(self) -> None:
        now_s = self._clock_s()
        while self._entries and next(iter(self._entries.values())).until_s <= now_s:
            self._forget_oldest()
        while self._contents and next(iter(self._contents.values()))[1] <= now_s:
            self._contents.popitem(last=False)

    def _forget_oldest(self) -> None:
        _, entry = self._entries.popitem(last=False)
        self.num_bytes -= entry.num_bytes


class _Abandoned(Exception):  # noqa: N818 - the first request ended with an error that does not apply to this one
    pass


async def _joined(found: "asyncio.Future[RewriteResult] | bytes") -> RewriteResult:
    """Returns the first request's result, or raises its error.

    Raises _Abandoned if that error does not apply to the waiting request.
    """
    if isinstance(found, bytes):
        return RewriteResult.model_validate_json(found)
    try:
        return await asyncio.shield(found)
    except TimeoutError as error:
        raise _Abandoned from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # this one's own client or deadline
        raise _Abandoned from error
