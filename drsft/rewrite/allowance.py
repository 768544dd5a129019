"""How many tokens may still be sampled, for a problem and for the shard that it is in.

A run's budget is shared out among its shards by their size before anything starts, so neither the number of
actors nor the order of shards changes what a shard may spend.
"""

__all__ = ["Allowance"]


class Allowance:
    """`num_tokens` None is no limit of its own; what is spent is also spent from `parent`."""

    def __init__(self, num_tokens: int | None, parent: "Allowance | None" = None) -> None:
        self._num_left = num_tokens
        self._parent = parent
        self.num_spent = 0

    @property
    def is_spent(self) -> bool:
        is_own_spent = self._num_left is not None and self._num_left <= 0
        return is_own_spent or (self._parent is not None and self._parent.is_spent)

    def spend(self, num_tokens: int) -> None:
        self.num_spent += num_tokens
        if self._num_left is not None:
            self._num_left -= num_tokens
        if self._parent is not None:
            self._parent.spend(num_tokens)
