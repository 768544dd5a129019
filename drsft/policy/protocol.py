"""The seams to every language model: prompt token ids in, sampled completions or their likelihood out."""

from collections.abc import Sequence
from typing import Protocol

from drsft.records import Completion, Sampling

__all__ = ["Policy", "Scorer"]


class Policy(Protocol):
    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> list[Completion]:
        """`sampling.num_samples` completions, in order of their sample index.

        Cancelling the call frees the engine's slots. Raises InputError when the prompt is too long.
        """
        ...


class Scorer(Protocol):
    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        """For each completion after the prompt the mean over its tokens of log p + H, in nats.

        Near 0 where the text is as likely as the model's own samples at temperature 1, negative where it is
        less likely (centred log-likelihood, arXiv 2602.12222).
        """
        ...
