"""Who gets in now: a rate for each key, and a bound on the tokens that are under way.

Nothing queues here but the problems of a batch: its sender cannot send them one after the other.

All state is of one ingress replica and its event loop: with R replicas a key has R times its rate.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from drsft.config import Rewrite
from serve.limits.capacity import Room
from serve.limits.keys import Key
from serve.limits.rates import Rates, Refused
from serve.telemetry import Meter, NoMeter

__all__ = ["NO_METER", "Admission", "Place", "Refused", "Ticket", "estimated_tokens"]


NO_METER = NoMeter()


class Admission:
    """Admits by estimate; what a request did not use is given back to its key when it ends.

    `longest_s` is what a request takes at most, `most_waiting` how many problems of one key may wait.
    """

    def __init__(
        self,
        tokens_in_flight: int,
        *,
        most_waiting: int = 64,
        longest_s: float = math.inf,
        clock_s: Callable[[], float] = time.monotonic,
        meter: Meter = NO_METER,
    ) -> None:
        self._most_waiting, self._longest_s = most_waiting, longest_s
        self._clock_s, self._meter = clock_s, meter
        self._room = Room(tokens_in_flight, meter=meter)
        self.rates = Rates(clock_s=clock_s, meter=meter)
        self._places: dict[str, set[Place]] = {}
        self._mean_s: float | None = None  # that requests were under way, of late

    @property
    def in_flight(self) -> int:
        return self._room.in_flight

    @contextmanager
    def counted(self, key: Key) -> Iterator[None]:
        """Within, there is one of the key's requests, whatever becomes of it; one that is refused is free."""
        taken = self.rates.take_request(key)
        try:
            yield
        except Refused:
            taken.give_back(1)
            raise

    @contextmanager
    def admit(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """Within, the tokens count as under way. Raises Refused at once, or not at all."""
        if not self._room.enter(num_tokens):
            raise self._full(num_tokens)
        with self._inside(key, num_tokens) as ticket:
            yield ticket

    @asynccontextmanager
    async def admit_in_turn(
        self, key: Key, num_tokens: int, *, place: "Place", until_s: float | None = None
    ) -> AsyncIterator["Ticket"]:
        """The same, but waits for room until then, of the loop's time; let in, it leaves its place."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._room.enter_in_turn(num_tokens)
        except TimeoutError:
            raise self._full(num_tokens) from None
        place.leave()
        with self._inside(key, num_tokens) as ticket:
            yield ticket

    @contextmanager
    def places(self, key: Key, num_problems: int) -> Iterator[list["Place"]]:
        """For each problem of a batch one to wait in, until it leaves it. Raises Refused for all of them."""
        taken = self._places.setdefault(key.name, set())
        if len(taken) + num_problems > self._most_waiting:
            self._meter.refused("waiting")
            reason = (
                f"{len(taken)} problems of key {key.name!r} wait already, of {self._most_waiting} at most"
            )
            raise Refused(reason, self._wait_s(self._room.num_tokens_waiting))
        places = [Place(taken) for _ in range(num_problems)]
        taken.update(places)
        try:
            yield places
        finally:
            taken.difference_update(places)

    @contextmanager
    def _inside(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """With the room taken already; frees it."""
        try:
            taken = self.rates.take_tokens(key, num_tokens)
            ticket = Ticket(started_s=self._clock_s(), used=num_tokens)
            try:
                yield ticket
            finally:
                taken.give_back(num_tokens - ticket.used)
                self._learn(ticket)
        finally:
            self._room.leave(num_tokens)

    def _full(self, num_tokens: int) -> Refused:
        self._meter.refused("full")
        return Refused("the service is full", self._wait_s(num_tokens), is_full=True)

    def _wait_s(self, num_tokens: int) -> float:
        """Until there is room. By Little's law tokens leave at in_flight / mean time."""
        if self._mean_s is None or not self.in_flight:
            return 1
        excess = self.in_flight + num_tokens - self._room.limit
        return min(self._mean_s * excess / self.in_flight, self._longest_s)

    def _learn(self, ticket: "Ticket") -> None:
        if ticket.used:
            elapsed_s = self._clock_s() - ticket.started_s
            self._mean_s = elapsed_s if self._mean_s is None else 0.9 * self._mean_s + 0.1 * elapsed_s


@dataclass(slots=True)
class Ticket:
    """`used` is what the request took, prompt and sampled tokens: its estimate until that is known.

    So whoever leaves, or sets a deadline that passes, pays for what the engines did.
    """

    started_s: float
    used: int


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Of a problem that waits, among those of its key."""

    taken: "set[Place]"

    def leave(self) -> None:
        """Once or again."""
        self.taken.discard(self)


def estimated_tokens(num_prompt_tokens: int, rewrite: Rewrite) -> int:
    """What a request may keep an engine busy with at one time: its largest wave, every sample at full length.

    The whole cascade can take several waves one after the other; counting them all would leave the engine
    half empty.
    """
    waves = (
        min(stage.wave_size, stage.num_samples) * stage.max_tokens
        for stage in (rewrite.self_align, rewrite.guided)
    )
    return num_prompt_tokens + max(waves)
