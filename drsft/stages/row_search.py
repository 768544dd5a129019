"""Finds the row of a shard that kills its engine, by running parts of the shard. It does not use Ray."""

from dataclasses import dataclass

__all__ = ["Culprit", "RowSearch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """The row (its index in the shard) that killed the engine when it ran alone, and the cause."""

    row: int
    cause: str


@dataclass(slots=True)
class RowSearch:
    """A bisection: the first half of the suspected rows runs, and the result shows which half to suspect.

    The last suspect must also kill the engine alone. Then the rest of the shard runs without it; if that
    kills the engine too, no single row is the cause.
    """

    cause: str  # of the shard's deaths
    culprit: Culprit | None = None
    _suspects: range | None = None
    _running: range = range(0)

    def part(self, num_rows: int) -> range:
        """Returns the rows to run next, of a shard with `num_rows` rows; call it while `culprit` is None."""
        if self._suspects is None:
            self._suspects = range(num_rows)
        self._running = self._suspects[: max(1, len(self._suspects) // 2)]
        return self._running

    def survived(self) -> bool:
        """Records that the engine survived the rows of `part`. Returns False if no suspected row is left."""
        assert self._suspects is not None
        self._suspects = self._suspects[len(self._running) :]
        self._running = range(0)
        return len(self._suspects) > 0

    def died(self) -> bool:
        """Records that the engine died. Returns False if no part was running, so that no single row is the
        cause.
        """
        if not self._running:
            return False
        if len(self._running) == 1:
            self.culprit = Culprit(row=self._running[0], cause=self.cause)
        self._suspects, self._running = self._running, range(0)
        return True
