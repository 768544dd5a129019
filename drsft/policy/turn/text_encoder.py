"""Encodes texts with a tokenizer: renderings of a chat template, and the texts inside them."""

import re
from collections.abc import Sequence
from typing import Any

from drsft.policy.turn.token_bounds import tokens_per_byte

__all__ = ["TextEncoder"]


class TextEncoder:
    """Encodes texts; distinguishes the template's special tokens from the same characters in a question or
    a solution.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # The Rust tokenizer without its Python wrapper, which takes several times as long for short texts.
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        # Added tokens that are not special (tags, numbers) are words like any other.
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        specials = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        newline = self.encode("\n")
        self._has_dummy_space = self.encode("\na") != [*newline, *self.encode("a")]

    def encode(self, rendered: str) -> list[int]:
        """Returns the token ids of a text that a chat template has rendered; special tokens in it get their
        own ids.

        No token is added: the template writes its own begin-of-text token if the model needs one.
        """
        return self._encode_each([rendered])[0]

    def encode_many(self, rendered: Sequence[str | None]) -> list[list[int] | None]:
        """Returns the token ids of each text, as `encode` does, on all cores; None for a text that is
        None.
        """
        encoded = iter(self._encode_each([text for text in rendered if text is not None]))
        return [None if text is None else next(encoded) for text in rendered]

    def tokens_per_byte(self) -> int | None:
        """Returns the most tokens that a byte of non-ASCII text can give (see token_bounds.py); None if no
        bound is known.

        No bound is known either for tokenizers that encode a text differently when it follows another one.
        """
        return None if self._has_dummy_space else tokens_per_byte(self._backend)

    def encode_behind(self, text: str, *, is_text: bool = False) -> list[int]:
        """Returns the ids of a text that follows another one, without the space that SentencePiece would put
        first.

        With `is_text`, characters that spell a special token are encoded like any other text.
        """
        encode = self._encode_text if is_text else self.encode
        if not self._has_dummy_space:
            return encode(text)
        lead, whole = encode("\n"), encode(f"\n{text}")
        return whole[len(lead) :] if whole[: len(lead)] == lead else encode(text)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def _encode_each(self, rendered: list[str]) -> list[list[int]]:
        if self._backend is not None:
            self._backend.encode_special_tokens = False  # the wrapper may have left it on
            # "fast" leaves out the offsets, a fifth of the time. `ids` is a new list at each call.
            return [one.ids for one in self._backend.encode_batch_fast(rendered, add_special_tokens=False)]
        return [list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in rendered]

    def _encode_text(self, text: str) -> list[int]:
        if not self.special.search(text):
            return self.encode(text)
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return list(ids)
