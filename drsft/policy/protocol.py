"""The seam to every language model: prompt token ids in, sampled completions out."""

from collections.abc import Sequence
from typing import Protocol

from drsft.records import Completion, Sampling

__all__ = ["Policy"]


class Policy(Protocol):
    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> list[Completion]:
        """`sampling.num_samples` completions, in order of their sample index.

        Cancelling the call frees the engine's slots. Raises InputError when the prompt is too long.
        """
        ...
