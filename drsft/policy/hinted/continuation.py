"""The text of one sample that follows both prompts of a problem: its tokens so far, the weight of its next
token, and when it ends.
"""

import hashlib
import math
from collections.abc import Callable, Sequence

from drsft.config import Mixing
from drsft.errors import InputError
from drsft.policy.hinted.protocol import Contexts
from drsft.records import Completion, FinishReason, Sampling, ThoughtPart

__all__ = ["Continuation", "loops", "start_continuations", "uniform"]

HINTED_ALONE, PLAIN_ALONE, BY_ENTROPY = 0.0, 1.0, math.nan
_UNIT = 1 << 52

Read = Callable[[Sequence[int]], tuple[str, ThoughtPart | None]]  # as Prompter.read


class Continuation:
    """The tokens drawn so far for one sample; `finish_reason` is None until it becomes STOP, LENGTH or LOOP.

    The random number for a token depends on the seed and the position alone. So after `truncate` a
    continuation draws the same tokens again, in any engine and any batch.
    """

    def __init__(
        self,
        mixing: Mixing,
        sampling: Sampling,
        *,
        sample_index: int = 0,
        max_tokens: int,
        stop_ids: frozenset[int],
        decode: Callable[[Sequence[int]], str],
        read: Read | None = None,
    ) -> None:
        """`read` splits a whole completion into answer and thought; None if there are no thoughts."""
        self.mixing, self.sampling, self.max_tokens = mixing, sampling, max_tokens
        self._seed = sampling.seed + sample_index
        self._stop_ids, self._decode = stop_ids, decode
        self._read = read or (lambda token_ids: (decode(token_ids), None))
        self.token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._answered_at: int | None = None  # tokens when the answer marker was complete
        self.finish_reason: FinishReason | None = None

    def forced_weight(self) -> float:
        """Returns λ of the next token, the weight of the plain prompt: 0 for the first token if the settings
        say so, 1 after the answer marker, else NaN, for which the schedule decides.
        """
        if not self.token_ids and self.mixing.hinted_first_token:
            return HINTED_ALONE
        return BY_ENTROPY if self._answered_at is None else PLAIN_ALONE

    def uniform(self) -> float:
        return uniform(self._seed, len(self.token_ids))

    def append(self, token_id: int, logprob: float) -> None:
        self.token_ids.append(token_id)
        self._logprobs.append(logprob)
        num_tokens = len(self.token_ids)
        if self._answered_at is None and self._answers(token_id):
            self._answered_at = num_tokens
        if token_id in self._stop_ids:
            self.finish_reason = FinishReason.STOP
        elif num_tokens >= self.max_tokens:
            self.finish_reason = FinishReason.LENGTH
        elif self._loops():
            self.finish_reason = FinishReason.LOOP

    def truncate(self, num_tokens: int) -> None:
        """Drops the tokens after the first `num_tokens`, so that the continuation is unfinished again."""
        del self.token_ids[num_tokens:], self._logprobs[num_tokens:]
        self.finish_reason = None
        if self._answered_at is not None and self._answered_at > num_tokens:
            self._answered_at = None

    def completion(self) -> Completion:
        """Returns the tokens so far as a Completion, without leading white space, since the first token is
        often a line break. The finish reason is LENGTH if the continuation is unfinished.
        """
        start = 0
        while start < len(self.token_ids) and self.token_ids[start] not in self._stop_ids:
            if self._decode(self.token_ids[start : start + 1]).strip():
                break
            start += 1
        token_ids = tuple(self.token_ids[start:])
        answer, thought = self._read(token_ids)
        return Completion(
            token_ids=token_ids,
            text=answer.lstrip(),
            behaviour_logprobs_T=tuple(self._logprobs[start:]),
            finish_reason=self.finish_reason or FinishReason.LENGTH,
            thought=thought,
        )

    def _answers(self, token_id: int) -> bool:
        """Returns whether the text contains the answer marker, now that `token_id` was added."""
        marker = self.mixing.answer_marker
        if marker is None:
            return False
        piece = self._decode([token_id])  # decoding everything at every token would be quadratic
        may_end = marker[-1] in piece or "\ufffd" in piece or marker[-1].isspace()
        return may_end and marker in self._decode(self.token_ids)

    def _loops(self) -> bool:
        guard = self.mixing.loop_guard
        if guard is None or len(self.token_ids) % guard.every_tokens:
            return False
        return loops(self.token_ids, ngram_tokens=guard.ngram_tokens, repeats=guard.repeats)


def start_continuations(
    contexts: Contexts,
    mixing: Mixing,
    sampling: Sampling,
    *,
    max_model_len: int,
    stop_ids: frozenset[int],
    decode: Callable[[Sequence[int]], str],
    read: Read | None = None,
) -> list[Continuation]:
    """Returns one empty continuation for each of `sampling.num_samples` samples, in order of their index.

    Raises InputError if the longer prompt leaves no room for a token within `max_model_len`.
    """
    room = max_model_len - contexts.longest
    if room <= 0:
        raise InputError(
            f"the prompt has {contexts.longest} tokens, which leaves no room for a solution; "
            f"target.max_model_len is {max_model_len}; raise it"
        )
    return [
        Continuation(
            mixing,
            sampling,
            sample_index=index,
            max_tokens=min(sampling.max_tokens, room),
            stop_ids=stop_ids,
            decode=decode,
            read=read,
        )
        for index in range(sampling.num_samples)
    ]


def loops(token_ids: Sequence[int], *, ngram_tokens: int, repeats: int) -> bool:
    """Returns whether some run of `ngram_tokens` tokens occurs at least `repeats` times; occurrences may
    overlap.
    """
    counts: dict[tuple[int, ...], int] = {}
    for start in range(len(token_ids) - ngram_tokens + 1):
        ngram = tuple(token_ids[start : start + ngram_tokens])
        counts[ngram] = counts.get(ngram, 0) + 1
        if counts[ngram] >= repeats:
            return True
    return False


def uniform(seed: int, position: int) -> float:
    """Returns the number in [0, 1) with which the token at `position` is drawn; it depends on `seed` and
    `position` alone.
    """
    digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 12) / _UNIT
