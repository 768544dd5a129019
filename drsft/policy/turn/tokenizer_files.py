"""Loads the tokenizer of a model folder or hub name, as its own files define it.

AutoTokenizer rebuilds some tokenizers from their vocabulary, according to the class or the model type that
the folder names. They can then split texts differently from the folder's tokenizer.json (transformers 5.19
leaves out all spaces, or groups digits differently). The weights were trained with the file's ids, so if the
two differ on test texts, the file's tokenizer is used.
"""

import json
import logging
from pathlib import Path
from typing import Any

from drsft.errors import ModelError
from drsft.policy.turn.lexicon import Lexicon, looks_like_a_marker

__all__ = ["first_line", "lexicon_of", "load_tokenizer"]

logger = logging.getLogger(__name__)

_PROBES = (
    "The cat sat on 12 mats; it isn't 3.75 or 1234567 of them.",
    "  two  spaces\n\n\tand a tab\n",
    "x = \\frac{1}{2} \\times (a+b)^2 = π²/6 ≈ 1,64",
    "naïve café, Ёлка 東京 😀",
)


def load_tokenizer(location: str) -> Any:
    """Returns the tokenizer of a model folder or hub name, and logs a warning if transformers builds another
    one than tokenizer.json describes.

    Raises ModelError if no tokenizer can be loaded, or if none agrees with tokenizer.json.
    """
    from transformers import AutoTokenizer

    file = _file(location, "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError and the hub's own errors alike
        tokenizer = None if file is None else _of_file(location)
        if tokenizer is None:
            reason = first_line(error)
            raise ModelError(f"target.model {location!r}: no tokenizer could be loaded: {reason}") from error
    if file is not None and not _agrees(tokenizer, file):
        theirs = _of_file(location)
        if theirs is None or not _agrees(theirs, file):
            raise ModelError(
                f"target.model {location!r}: its tokenizer_config.json makes another tokenizer than its "
                'tokenizer.json; set "tokenizer_class": "PreTrainedTokenizerFast" there'
            )
        logger.warning(
            "%s: transformers builds a tokenizer that differs from tokenizer.json; drsft uses tokenizer.json",
            location,
        )
        return theirs
    return tokenizer


def lexicon_of(tokenizer: Any, location: str) -> Lexicon:
    """Returns the markers of a tokenizer, with the end tokens that it and the model's generation_config.json
    name.
    """
    added = {str(token): int(token_id) for token_id, token in tokenizer.added_tokens_decoder.items()}
    markers = {
        text: token_id
        for text, token_id in added.items()
        if tokenizer.added_tokens_decoder[token_id].special or looks_like_a_marker(text)
    }
    for text in tokenizer.all_special_tokens:
        markers.setdefault(str(text), int(tokenizer.convert_tokens_to_ids(text)))
    eos_id = tokenizer.eos_token_id
    return Lexicon(
        markers=markers,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        eos_id=None if eos_id is None else int(eos_id),
        listed_ends=_listed_ends(location),
        encode=lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
    )


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _file(location: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    try:
        found = cached_file(location, name)
    except Exception:  # any of several errors means that the file does not exist
        return None
    return None if found is None else Path(found)


def _of_file(location: str) -> Any:
    """Returns the tokenizer in tokenizer.json with the folder's settings; None if it cannot be read."""
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(location)
    except Exception:
        return None


def _agrees(tokenizer: Any, file: Path) -> bool:
    from tokenizers import Tokenizer

    try:
        own = Tokenizer.from_file(str(file))
    except Exception:  # tokenizers raises Exception itself
        return True  # there is nothing to compare it with
    own.no_truncation()
    own.no_padding()
    try:
        return all(
            list(tokenizer(text, add_special_tokens=False)["input_ids"])
            == own.encode(text, add_special_tokens=False).ids
            for text in _PROBES
        )
    except Exception:  # a damaged file can raise any of several errors
        return False


def _listed_ends(location: str) -> tuple[int, ...] | None:
    file = _file(location, "generation_config.json")
    if file is None:
        return None
    try:
        named = json.loads(file.read_text())["eos_token_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    listed = named if isinstance(named, list) else [named]
    ids = tuple(one for one in listed if isinstance(one, int) and not isinstance(one, bool))
    return ids or None
