"""Problems become prompt token ids through the model's own chat template; demonstrations become completions.

The user's text cannot break out of its turn: whatever it spells, special tokens come from the template.
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from drsft.config import Prompts
from drsft.errors import ModelError
from drsft.records import Problem

__all__ = ["Prompter", "chat_messages", "load_prompter", "model_location", "user_turn"]

_PLACEHOLDER = re.compile(r"\{(question|demonstration)\}")
_CONTENT = "drsft-content-7f3a"  # stands for the user's text while the template is rendered


def model_location(name: str) -> str:
    """`embedded` is the model that drsft ships; anything else is a folder or a hub name as it stands."""
    return str(files("drsft.embedded") / "model") if name == "embedded" else name


def load_prompter(model: str, prompts: Prompts) -> "Prompter":
    """The prompter of a model folder or hub name. Raises ModelError without tokenizer or chat template."""
    from transformers import AutoTokenizer

    location = model_location(model)
    if location.startswith((".", "/", "~")) and not Path(location).expanduser().is_dir():
        raise ModelError(f"target.model {location!r}: no such folder; give a model folder or a hub name")
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
    except Exception as error:  # transformers raises OSError, ValueError and the hub's own errors alike
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"target.model {location!r}: no tokenizer could be loaded: {reason}") from error
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"target.model {location!r}: its tokenizer has no chat template; add one to the folder"
        )
    return Prompter(tokenizer, prompts)


def user_turn(template: str, problem: Problem) -> str:
    """The template with the problem's texts in place; what they contain is never filled in again."""
    fields = {"question": problem.question, "demonstration": problem.demonstration}
    return _PLACEHOLDER.sub(lambda match: fields[match[1]], template).strip()


def chat_messages(system: str | None, user: str) -> list[dict[str, str]]:
    """The turns before the assistant's, as chat templates take them."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": user}]


class Prompter:
    """Holds a Hugging Face tokenizer and the templates of the user's turn."""

    def __init__(self, tokenizer: Any, prompts: Prompts) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        added = [str(token) for token in tokenizer.get_added_vocab()]
        self._special = re.compile("|".join(map(re.escape, {*specials, *added})) or r"(?!)")
        self._head_ids, self._tail_ids = self._frame()
        self.end_of_turn_id = self._find_end_of_turn()

    def plain(self, problem: Problem) -> tuple[int, ...]:
        """The prompt without any guide: the one that is trained on."""
        return self._prompt(self.prompts.plain, problem)

    def guided(self, problem: Problem) -> tuple[int, ...]:
        """The prompt with the demonstration in view."""
        return self._prompt(self.prompts.guided, problem)

    def completion(self, text: str) -> tuple[int, ...]:
        """The ids of a written solution as the model would produce it: text, then the end of the turn."""
        return (*self._encode_text(text.strip()), self.end_of_turn_id)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _prompt(self, template: str, problem: Problem) -> tuple[int, ...]:
        user = user_turn(template, problem)
        if self._special.search(user):
            return (*self._head_ids, *self._encode_text(user), *self._tail_ids)
        return tuple(self._encode(self._render(user)))

    def _messages(self, user: str) -> list[dict[str, str]]:
        return chat_messages(self.prompts.system, user)

    def _render(self, user: str) -> str:
        messages = self._messages(user)
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def _frame(self) -> tuple[list[int], list[int]]:
        head, _, tail = self._render(_CONTENT).partition(_CONTENT)
        return self._encode(head), self._encode(tail)

    def _find_end_of_turn(self) -> int:
        """The special token that the template puts after an assistant's text (not blindly eos)."""
        messages = [*self._messages("x"), {"role": "assistant", "content": _CONTENT}]
        rendered = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        special_ids = set(self.tokenizer.all_special_ids) | set(self.tokenizer.get_added_vocab().values())
        after = [i for i in self._encode(rendered.partition(_CONTENT)[2]) if i in special_ids]
        return after[0] if after else int(self.tokenizer.eos_token_id)

    def _encode(self, rendered: str) -> list[int]:
        # The template writes its own begin-of-text where one is due: adding special tokens would double it.
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def _encode_text(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return list(ids)
