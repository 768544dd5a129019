"""The interfaces to every language model: prompt token ids in, sampled completions or their
likelihood out.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from drsft.records import Completion, Sampling

__all__ = ["Draw", "DrawingPolicy", "OnTokens", "Policy", "Scorer", "ScoringPolicy", "draws_of"]


OnTokens = Callable[[int, Sequence[int]], None]  # a sample's index in its call, and its new token ids


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample in progress.

    After `stop()` it soon completes with the tokens sampled so far and finish reason STOPPED, unless it had
    just finished by itself. Only the tokens of a stopped completion are meaningful.
    """

    completion: asyncio.Future[Completion]
    stop: Callable[[], None]


class Policy(Protocol):
    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        """Returns `sampling.num_samples` completions, in order of their sample index.

        `on_tokens` is called in the caller's event loop as tokens arrive; a policy that gets whole texts
        ignores it. Cancelling the call stops its samples in the engine. Raises InputError when the prompt is
        too long.
        """
        ...


class DrawingPolicy(Policy, Protocol):
    """A policy that returns its samples one by one; each can be stopped by itself."""

    def draw(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> Sequence[Draw]:
        """Starts the samples that `generate` would return and returns them at once, unfinished, in the same
        order.

        Call it in a running event loop.
        """
        ...


def draws_of(
    policy: Policy, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
) -> Sequence[Draw]:
    """Returns a policy's samples one by one, unfinished, for any kind of policy.

    Samples of a policy without `draw` arrive together. A stop has no effect on them until all are stopped:
    then the call is cancelled, and so are their futures.
    """
    draw: Callable[..., Sequence[Draw]] | None = getattr(policy, "draw", None)
    if draw is not None:  # isinstance() of a protocol takes longer than the rest of this function
        return draw(prompt_ids, sampling, on_tokens=on_tokens)
    loop = asyncio.get_running_loop()
    whole = loop.create_task(policy.generate(prompt_ids, sampling, on_tokens=on_tokens))
    futures: list[asyncio.Future[Completion]] = [loop.create_future() for _ in range(sampling.num_samples)]
    stopped: set[int] = set()

    def stop(index: int) -> None:
        stopped.add(index)
        if len(stopped) == len(futures):
            whole.cancel()

    whole.add_done_callback(partial(_hand_out, futures))
    return [Draw(future, partial(stop, index)) for index, future in enumerate(futures)]


def _hand_out(futures: Sequence[asyncio.Future[Completion]], whole: asyncio.Task[list[Completion]]) -> None:
    error = None if whole.cancelled() else whole.exception()
    completions = [None] * len(futures) if whole.cancelled() or error else whole.result()
    for future, completion in zip(futures, completions, strict=True):
        if future.done():
            continue
        if completion is not None:
            future.set_result(completion)
        elif error is not None:
            future.set_exception(error)
        else:
            future.cancel()


@runtime_checkable
class ScoringPolicy(Policy, Protocol):
    """A policy that can also score how likely a text is."""

    async def logprobs(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        """Returns ln p of each token of a completion after the prompt, at temperature 1 without top-p, in
        nats.

        The last token is left out if prompt and completion fill the policy's maximal length exactly. Raises
        InputError when they are too long for the policy together.
        """
        ...


class Scorer(Protocol):
    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        """Returns for each completion the mean of log p + H over its tokens, in nats: p is the model's
        probability of the token, H the entropy of the model's distribution at its place.

        It is near 0 if the text is as likely as the model's own samples at temperature 1, and negative if it
        is less likely (centred log-likelihood, arXiv 2602.12222).
        """
        ...
