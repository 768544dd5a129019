"""Computes an upper bound on the tokens of a text from its length alone, if the tokenizer allows one.

Byte-level BPE maps each byte of a text to one symbol and merges neighbours, so every token covers at least
one byte: a text has at most as many tokens as bytes. That holds for any merges and added tokens, if nothing
before the merges lengthens the text. So a bound is given only if all of these conditions hold:

- the model is BPE without byte fallback, prefix or suffix of words;
- the bytes are mapped once (ByteLevel), without a space put before each text; other steps only cut the text
  (Split, Digits, Punctuation), so no byte is added;
- the normaliser is none or NFC. NFC leaves ASCII as it is and makes UTF-8 at most three times as long
  (Unicode Standard Annex 15, FAQ "maximum expansion").

Other tokenizers (SentencePiece, WordPiece) get no bound: their texts are tokenised.
"""

import json
from dataclasses import dataclass
from typing import Any

from drsft.records import Problem

__all__ = ["LengthBound", "most_tokens", "tokens_per_byte"]

_NFC_GROWTH = 3
_ONLY_CUT = frozenset({"Split", "Digits", "Punctuation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBound:
    """An upper bound on the tokens of a plain prompt and its demonstration together."""

    constant: int  # what the template and the prompt put around the texts
    num_questions: int  # how often the prompt holds each
    num_demonstrations: int
    beyond_ascii: int  # as `tokens_per_byte`

    def of(self, problem: Problem) -> int:
        """Returns the bound for a problem without earlier turns, whose texts are valid Unicode."""
        return (
            self.constant
            + self.num_questions * most_tokens(problem.question, self.beyond_ascii)
            + self.num_demonstrations * most_tokens(problem.demonstration, self.beyond_ascii)
        )


def most_tokens(text: str, beyond_ascii: int) -> int:
    """Returns an upper bound on the tokens of a text; `beyond_ascii` is the tokenizer's `tokens_per_byte`."""
    return len(text) if text.isascii() else beyond_ascii * len(text.encode())


def tokens_per_byte(backend: Any) -> int | None:
    """Returns the most tokens that a byte of a non-ASCII text can give (for ASCII it is one); None if
    unbounded.

    `backend` is the Rust tokenizer, or None if there is none.
    """
    if backend is None or backend.padding is not None:
        return None
    made = json.loads(backend.to_str())
    if not (_is_plain_bpe(made["model"]) and _maps_bytes_once(made["pre_tokenizer"])):
        return None
    normaliser = made["normalizer"]
    if normaliser is None:
        return 1
    return _NFC_GROWTH if normaliser["type"] == "NFC" else None


def _is_plain_bpe(model: dict[str, Any]) -> bool:
    adds = ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")
    return model.get("type") == "BPE" and not any(model.get(key) for key in adds)


def _maps_bytes_once(pre_tokenizer: dict[str, Any] | None) -> bool:
    if pre_tokenizer is None:
        return False
    is_sequence = pre_tokenizer["type"] == "Sequence"
    steps = pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer]
    mapping = [step for step in steps if step["type"] == "ByteLevel"]
    others = {step["type"] for step in steps if step["type"] != "ByteLevel"}
    return len(mapping) == 1 and not mapping[0]["add_prefix_space"] and others <= _ONLY_CUT
