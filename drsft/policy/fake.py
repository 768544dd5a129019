"""A policy without a model, for tests of the logic around it: a function gives the answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from drsft.policy.protocol import OnTokens
from drsft.records import Completion, FinishReason, Sampling

__all__ = ["FakePolicy", "text_completion"]


def text_completion(text: str, *, finish_reason: FinishReason = FinishReason.STOP) -> Completion:
    """Returns a completion whose token ids are the code points of `text`, and then 0 if `finish_reason` is
    STOP.
    """
    ids = (*map(ord, text), *([0] if finish_reason is FinishReason.STOP else []))
    return Completion(
        token_ids=ids, text=text, behaviour_logprobs_T=(-0.5,) * len(ids), finish_reason=finish_reason
    )


async def _at_once(completions: Sequence[Completion]) -> None:
    await asyncio.sleep(0)


class FakePolicy:
    """Returns `answer(prompt_ids, seed)` as a sample; sample i of a call has the seed of its Sampling plus i.

    Before it returns, it awaits `serve(completions)`, which can take as long as an engine would. `logprobs`
    returns the same log-prob for every token.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[int], int], Completion],
        *,
        serve: Callable[[Sequence[Completion]], Awaitable[None]] = _at_once,
    ) -> None:
        self.answer = answer
        self.serve = serve
        self.num_requests = 0
        self.num_cancelled = 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        self.num_requests += 1
        completions = [self.answer(prompt_ids, sampling.seed + i) for i in range(sampling.num_samples)]
        try:
            await self.serve(completions)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if on_tokens is not None:
            for index, completion in enumerate(completions):
                on_tokens(index, completion.token_ids)
        return completions

    async def logprobs(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        return (-0.5,) * len(completion_ids)
