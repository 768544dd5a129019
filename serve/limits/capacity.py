"""The tokens that are under way, within a bound; who waits for room gets it in turn."""

import asyncio
from collections import OrderedDict

from serve.telemetry import Meter

__all__ = ["Room"]


class Room:
    """Whoever is let in out of the line has its tokens from that moment: nobody can come between."""

    def __init__(self, limit: int, *, meter: Meter) -> None:
        self.limit = limit
        self.in_flight = 0
        self._meter = meter
        self._line: OrderedDict[asyncio.Future[None], int] = OrderedDict()  # the first comes first
        self._add(0)

    @property
    def num_tokens_waiting(self) -> int:
        return sum(self._line.values())

    def enter(self, num_tokens: int) -> bool:
        """Takes it, unless there is too little."""
        has_room = self._fits(num_tokens)
        if has_room:
            self._add(num_tokens)
        return has_room

    async def enter_in_turn(self, num_tokens: int) -> None:
        """Takes it, behind everybody who waits. One that is cancelled has taken nothing."""
        if not self._line and self.enter(num_tokens):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[turn] = num_tokens
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._line.pop(turn, None)
                self._let_in()  # those behind it may need less
            else:
                self.leave(num_tokens)
            raise

    def leave(self, num_tokens: int) -> None:
        self._add(-num_tokens)
        self._let_in()

    def _let_in(self) -> None:
        while self._line:
            turn, num_tokens = next(iter(self._line.items()))
            if turn.cancelled():
                del self._line[turn]
            elif self.enter(num_tokens):
                del self._line[turn]
                turn.set_result(None)
            else:
                return

    def _fits(self, num_tokens: int) -> bool:
        """Alone, a request may be larger than everything."""
        return not self.in_flight or self.in_flight + num_tokens <= self.limit

    def _add(self, num_tokens: int) -> None:
        self.in_flight += num_tokens
        self._meter.in_flight(self.in_flight, limit=self.limit)
