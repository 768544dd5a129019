"""Converts completions to ids and back: written ones as the model would sample them, sampled ones
into parts.
"""

from collections.abc import Sequence
from dataclasses import replace

from drsft.policy.turn.part_stream import PartStream
from drsft.policy.turn.probes import ANSWER
from drsft.policy.turn.split import CompletionIds, ThoughtIds, split_ids
from drsft.policy.turn.text_encoder import TextEncoder
from drsft.policy.turn.turn import Turn, TurnPiece

__all__ = ["CompletionCodec"]


class CompletionCodec:
    """Encodes written completions, and splits sampled ones into thought and answer.

    `prompt_end` is the end of every prompt from its last marker on; text before it cannot change later ids.
    """

    def __init__(self, turn: Turn, encoder: TextEncoder, prompt_end: str) -> None:
        self._turn, self._encoder = turn, encoder
        self._prompt_end, self._prompt_end_ids = prompt_end, encoder.encode(prompt_end)
        self._thought_ids = self._find_thought_ids()
        behind = "" if turn.thought is None else turn.thought.after.partition(turn.thought.close)[2]
        leads = (tuple(encoder.encode_behind(text)) for text in (turn.head, behind.strip()))
        self._leads = [lead for lead in leads if lead]
        self._tail = tuple(encoder.encode_behind(turn.tail))
        self._before_answer = prompt_end + turn.head

    def encode_answer(self, answer: str) -> list[int]:
        """Returns the token ids of a completion with an answer and no thought; this is faster than `encode`,
        and most texts have no thought.
        """
        if self._encoder.special.search(answer):
            return self.encode(self._turn.pieces(answer))
        whole = f"{self._before_answer}{answer}{self._turn.tail}"
        return self._behind_prompt(whole, self._encoder.encode(whole))

    def encode(self, pieces: Sequence[TurnPiece]) -> list[int]:
        """Returns the token ids of a completion, given in pieces, as they are in the rendering of the whole
        conversation.
        """
        encoder = self._encoder
        whole = self.whole(pieces)
        if whole is None:
            return [
                token_id
                for piece in pieces
                for token_id in encoder.encode_behind(piece.text, is_text=piece.is_text)
            ]
        return self._behind_prompt(whole, encoder.encode(whole))

    def whole(self, pieces: Sequence[TurnPiece]) -> str | None:
        """Returns the end of the prompt and a completion as one text, to be encoded together.

        Returns None if a piece that is ordinary text contains the text of a special token: then the pieces
        have to be encoded one by one.
        """
        if any(piece.is_text and self._encoder.special.search(piece.text) for piece in pieces):
            return None
        return self._prompt_end + "".join(piece.text for piece in pieces)

    def lengths(self, wholes: Sequence[str | None]) -> list[int | None]:
        """Returns the number of token ids of each completion; a completion is given as the text that `whole`
        returned for it.

        The number is None where `whole` returned None.
        """
        return [
            None if whole is None or ids is None else len(self._behind_prompt(whole, ids))
            for whole, ids in zip(wholes, self._encoder.encode_many(wholes), strict=True)
        ]

    def _behind_prompt(self, whole: str, ids: list[int]) -> list[int]:
        """Returns the ids after the prompt's end.

        If the prompt ends inside a token of the whole, the rest is encoded by itself, as the model would
        continue.
        """
        begun = len(self._prompt_end_ids)
        if ids[:begun] == self._prompt_end_ids:
            return ids[begun:]
        return self._encoder.encode_behind(whole[len(self._prompt_end) :])

    @property
    def is_cut_inside_a_token(self) -> bool:
        """Whether the end of the prompt and the beginning of a completion, if encoded together, share a
        token; sampling cannot produce such a token.
        """
        text = "".join(piece.text for piece in self._turn.pieces(ANSWER))
        whole = self._encoder.encode(self._prompt_end + text)
        return whole[: len(self._prompt_end_ids)] != self._prompt_end_ids

    def split(self, token_ids: Sequence[int]) -> CompletionIds:
        """Returns the token ids of a sampled completion's thought and answer, without what the template
        writes around the answer.
        """
        parts = split_ids(
            token_ids, self._thought_ids, lambda ids: self._encoder.decode(ids, skip_special_tokens=False)
        )
        answer = parts.answer
        lead = next((lead for lead in self._leads if answer[: len(lead)] == lead), ())
        answer = answer[len(lead) :]
        if self._tail and answer[-len(self._tail) :] == self._tail:
            answer = answer[: -len(self._tail)]
        return replace(parts, answer=answer)

    def part_stream(self) -> PartStream:
        """Returns an object that splits one completion while it is sampled.

        At its end the parts equal those of `split`.
        """
        return PartStream(
            self._thought_ids,
            lambda ids: self._encoder.decode(ids, skip_special_tokens=False),
            leads=self._leads,
            tail=self._tail,
        )

    def _find_thought_ids(self) -> ThoughtIds | None:
        thought, encoder = self._turn.thought, self._encoder
        if thought is None:
            return None
        opening, closing = (tuple(encoder.encode_behind(one)) for one in (thought.open, thought.close))
        single = set(encoder.tokenizer.added_tokens_decoder)
        return ThoughtIds(
            open=thought.open,
            close=thought.close,
            open_ids=opening,
            close_ids=closing,
            is_spelt=not (single & set(opening) and single & set(closing)),
            begins_inside=thought.is_open_in_prompt,
        )
