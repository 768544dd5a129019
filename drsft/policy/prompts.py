"""Turns problems into prompt token ids by the model's chat template, and demonstrations into completions.

The user's text cannot break out of its turn: special tokens come from the template only, never from the text.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from drsft.config import Prompts, Target
from drsft.errors import ModelError
from drsft.policy.embedding_rows import rows_in_weights
from drsft.policy.turn.completions import CompletionCodec
from drsft.policy.turn.load import TurnRenderer, check_stored_turn, derive_turn
from drsft.policy.turn.part_stream import PartStream
from drsft.policy.turn.split import CompletionIds
from drsft.policy.turn.text_encoder import TextEncoder
from drsft.policy.turn.thoughts import split_text
from drsft.policy.turn.token_bounds import LengthBound, most_tokens
from drsft.policy.turn.tokenizer_files import load_tokenizer
from drsft.policy.turn.turn import Turn
from drsft.process.collector import collector_paused
from drsft.records import Completion, FinishReason, Problem, ThoughtPart
from drsft.storage import download_folder, open_store

__all__ = [
    "Prompter",
    "chat_messages",
    "check_length",
    "check_location",
    "check_vocabulary",
    "load_prompter",
    "model_location",
    "num_positions",
    "target_prompter",
    "text_patterns",
    "user_turn",
]

_PLACEHOLDER = re.compile(r"\{(question|demonstration)\}")
_CONTENT = "drsft-content-7f3a"  # stands for the user's text while the template is rendered
_STAND_IN = "drsft-text-7f3a"  # and a number: the same in a conversation
_PROBES = ("x", "one line\n\nand another", "{{ x }} {% y %} <think>", "a  b\tc", "</think>\\n'\"")


def model_location(name: str) -> str:
    """Returns the folder or hub name of a model: for `embedded` the folder of the model that drsft ships, for
    an s3:// URL a temporary folder; "~" is expanded, other names are returned unchanged.

    A model in an object store is downloaded once for each process, so that no older files are used. Raises
    ModelError if there is nothing under its URL.
    """
    if name.startswith("s3://"):
        return _fetched(name)
    if name.startswith("~"):
        return os.path.expanduser(name)
    return str(files("drsft.embedded") / "model") if name == "embedded" else name


@lru_cache
def _fetched(url: str) -> str:
    folder = tempfile.mkdtemp(prefix="drsft-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    download_folder(open_store(url), "", Path(folder))
    if not os.listdir(folder):
        raise ModelError(f"target.model {url!r}: the store has no object there; give a model folder's URL")
    return folder


def check_location(location: str) -> None:
    """Raises ModelError for a name that looks like a folder but is not one; reads no file.

    A name looks like a folder if it begins with ".", "/" or "~" or has more than one slash; others are hub
    names.
    """
    is_folder = location.startswith((".", "/", "~")) or location.count("/") > 1
    try:
        is_there = not is_folder or Path(location).expanduser().is_dir()
    except (OSError, RuntimeError):  # too long a name; no such user
        is_there = False
    if not is_there:
        raise ModelError(f"target.model {location!r}: no such folder; give a model folder or a hub name")


def load_prompter(model: str, prompts: Prompts) -> "Prompter":
    """Returns the Prompter of a model, with default settings apart from `prompts`.

    Raises ModelError if the model has no tokenizer or no chat template.
    """
    return target_prompter(Target(model=model, prompts=prompts))


@collector_paused()  # transformers and torch are imported
def target_prompter(target: Target, turn: Turn | None = None, *, date: str | None = None) -> "Prompter":
    """Returns the Prompter of a target.

    `turn`, the layout of the assistant's turn, is the one stored in the run; None derives it from the chat
    template as of `date` (ISO; default: today). Raises ModelError, one line, if the model has no tokenizer,
    or a chat template that is missing or cannot be used for prompts and training.
    """
    location = model_location(target.model)
    check_location(location)
    tokenizer = load_tokenizer(location)
    if turn is None:
        turn = derive_turn(tokenizer, target, location, date=date)
    else:
        check_stored_turn(turn, tokenizer, location)
    prompter = Prompter(tokenizer, target.prompts, turn)
    check_vocabulary(target, prompter)
    return prompter


def text_patterns(texts: Sequence[str], location: str) -> tuple[tuple[int, ...], ...]:
    """Returns the token ids of each text, in which special tokens may be spelt; () without texts.

    Raises ModelError if the tokenizer cannot be loaded.
    """
    if not texts:
        return ()
    tokenizer = load_tokenizer(location)
    return tuple(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)


def check_length(target: Target) -> None:
    """Raises ModelError if `max_model_len` exceeds the model's number of positions. Does nothing if the
    model's files name no such number.
    """
    positions = num_positions(target)
    if positions is not None and target.max_model_len > positions:
        raise ModelError(
            f"target.max_model_len: {target.max_model_len} is more than the {positions} positions of "
            f"{target.model!r}; set at most {positions}"
        )


def num_positions(target: Target) -> int | None:
    """Returns the longest text that the model can read, in tokens; None if its files name no limit."""
    positions = getattr(_model_config(target), "max_position_embeddings", None)
    return positions if isinstance(positions, int) else None


def check_vocabulary(target: Target, prompter: "Prompter") -> None:
    """Raises ModelError if the tokenizer has ids without a row in the model's embedding. Does nothing if the
    model's files do not tell how many rows there are.

    The smaller number counts if config.json and the weights in safetensors differ. Added tokens count only if
    the chat template writes them: some models' padding token has an id and no embedding, which does no harm.
    """
    named = getattr(_model_config(target), "vocab_size", None)
    counts = (named, rows_in_weights(model_location(target.model)))
    size = min((count for count in counts if isinstance(count, int)), default=None)
    if size is None:
        return
    num_tokens = int(prompter.tokenizer.vocab_size)
    if num_tokens > size:
        raise ModelError(
            f"target.model {target.model!r}: its tokenizer has {num_tokens:,} tokens, but its embedding has "
            f"{size:,} rows; this is another model's tokenizer: restore the model's own"
        )
    for token_id in sorted(prompter.template_ids):
        if token_id >= size:
            token = prompter.tokenizer.convert_ids_to_tokens(token_id)
            raise ModelError(
                f"target.model {target.model!r}: its chat template writes {token}, id {token_id:,}, which is "
                f"beyond the {size:,} rows of its embedding; resize the embedding (resize_token_embeddings), "
                "or set target.chat_template"
            )


@collector_paused()
def _model_config(target: Target) -> Any:
    """Returns the text model's configuration.

    Returns None if it cannot be read; loading the model then raises an error with the reason.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_location(target.model), trust_remote_code=False)
    except Exception:  # transformers raises OSError, ValueError, TypeError and its own errors alike
        return None
    return config.get_text_config()


def user_turn(template: str, problem: Problem) -> str:
    """Returns the template with the problem's question and demonstration in place of {question} and
    {demonstration}.

    Placeholders inside these two texts stay as they are. White space around the whole result is removed.
    """
    fields = {"question": problem.question, "demonstration": problem.demonstration}
    return _PLACEHOLDER.sub(lambda match: fields[match[1]], template).strip()


def chat_messages(problem: Problem, template: str, *, system: str | None) -> list[dict[str, str]]:
    """Returns the messages before the assistant's answer, as chat templates take them: system turn, earlier
    turns of the problem, and `template` filled in as the last user turn.

    A system turn of the problem's own conversation replaces `system`.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in problem.earlier]
    has_own_system = bool(turns) and turns[0]["role"] == "system"
    return [*_turns(None if has_own_system else system, *turns), _user(user_turn(template, problem))]


def _turns(system: str | None, *others: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, *others] if system else [*others]


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _stand_in(text: str, stands_for: dict[str, str]) -> str:
    """Returns a placeholder for a text while the template is rendered, and records it in `stands_for`."""
    name = f"{_STAND_IN}-{len(stands_for)}-end"
    stands_for[name] = text
    return name


class Prompter:
    """Converts problems to prompts, and solutions to completions, as token ids of one model."""

    def __init__(
        self, tokenizer: Any, prompts: Prompts, turn: Turn, *, system_key: str = "target.prompts.system"
    ) -> None:
        """`system_key` is the setting of the system turn. Raises ModelError if the template takes none."""
        if prompts.system and turn.system_refusal is not None:
            raise ModelError(
                f"{system_key}: {turn.system_refusal}; leave it out, or put it in the user's turn"
            )
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.turn = turn
        self._renderer = TurnRenderer(turn, tokenizer)
        self._encoder = TextEncoder(tokenizer)
        self._head, _, self._tail = self._render(_CONTENT).partition(_CONTENT)
        self._head_ids = self._encoder.encode(self._head)
        # Most templates put the user's text between two constant ones: then rendering is joining, which is
        # many times faster than the template engine.
        self._is_verbatim = all(
            self._render(probe) == f"{self._head}{probe}{self._tail}" for probe in _PROBES
        )
        self._completions = CompletionCodec(turn, self._encoder, self._prompt_end())

    def under(self, prompts: Prompts, *, system_key: str = "target.prompts.system") -> "Prompter":
        """Returns a Prompter of the same model with other prompts. `system_key` is the setting that a
        ModelError names if the chat template takes no system turn.
        """
        return Prompter(self.tokenizer, prompts, self.turn, system_key=system_key)

    @property
    def end_of_turn_id(self) -> int:
        """The id of the token that ends the assistant's turn, which is the last one of a whole completion."""
        return self.turn.end_token_ids[0]

    @property
    def template_ids(self) -> frozenset[int]:
        """All token ids that the template writes around the texts of a prompt and a completion, and all end
        tokens.
        """
        pieces = (*self.turn.pieces(""), *self.turn.pieces("", ""))
        written = (one for piece in pieces for one in self._encoder.encode_behind(piece.text))
        return frozenset(
            [*self._head_ids, *self._encoder.encode(self._tail), *written, *self.turn.end_token_ids]
        )

    def plain(self, problem: Problem) -> tuple[int, ...]:
        """Returns the token ids of the prompt with the question alone, which is the prompt used for
        training.
        """
        return self._prompt(self.prompts.plain, problem)

    def guided(self, problem: Problem) -> tuple[int, ...]:
        """Returns the token ids of the prompt that shows the demonstration, the expert's solution."""
        return self._prompt(self.prompts.guided, problem)

    def answered(self, problem: Problem) -> tuple[int, ...]:
        """Returns the token ids of the prompt that shows an answer alone; `problem.demonstration` has to be
        that answer.
        """
        return self._prompt(self.prompts.answered, problem)

    def rephrased(self, problem: Problem) -> tuple[int, ...]:
        """Returns the token ids of the prompt that asks the model to rewrite the demonstration in other
        words.
        """
        return self._prompt(self.prompts.rephrased, problem)

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Returns the token ids of the prompt for the assistant's next turn; `messages` are all turns so far,
        each with `role` and `content`.

        Earlier turns of the assistant are rendered by the template, which gets their thoughts separately.
        Raises ModelError if the template takes no such conversation, and InputError for a thought without an
        end.
        """
        if any(one["role"] == "system" for one in messages) and self.turn.system_refusal is not None:
            raise ModelError(self.turn.system_refusal)
        if any(one["role"] == "assistant" for one in messages) and self.turn.conversation_refusal is not None:
            raise ModelError(self.turn.conversation_refusal)
        turns = [self._turn_as_rendered(one) for one in messages]
        texts = [text for turn in turns for key, text in turn.items() if key != "role"]
        if not any(self._encoder.special.search(text) for text in texts):
            return tuple(self._encoder.encode(self._renderer.render(turns, add_generation_prompt=True)))
        stands_for: dict[str, str] = {}
        hidden = [
            {key: text if key == "role" else _stand_in(text, stands_for) for key, text in turn.items()}
            for turn in turns
        ]
        rendered = self._renderer.render(hidden, add_generation_prompt=True)
        first, *rest = re.split(f"({_STAND_IN}-[0-9]+-end)", rendered)
        behind = (
            one
            for piece in rest
            for one in self._encoder.encode_behind(stands_for.get(piece, piece), is_text=piece in stands_for)
        )
        return (*self._encoder.encode(first), *behind)

    def _turn_as_rendered(self, message: Mapping[str, str]) -> dict[str, str]:
        if message["role"] != "assistant":
            return dict(message)
        written = split_text(message["content"].strip(), self.turn.thought)
        thought = {} if written.thought is None else {"reasoning_content": written.thought}
        return {"role": "assistant", "content": written.answer, **thought}

    def whole_plain(self, problem: Problem) -> str | None:
        """Returns the plain prompt as one text.

        Returns None if the problem has earlier turns or contains the text of a special token: encoding the
        whole would then give other ids than `plain`.
        """
        if problem.earlier:
            return None
        user = user_turn(self.prompts.plain, problem)
        return None if self._encoder.special.search(user) else self._whole(user)

    def whole_completion(self, text: str) -> str | None:
        """Returns the end of the prompt, from its last special token on, and a solution as one text. Returns
        None if the solution contains the text of a special token: encoding the whole would then give other
        ids than `completion`.

        Raises InputError as `completion` does.
        """
        written = split_text(text.strip(), self.turn.thought)
        return self._completions.whole(self.turn.pieces(written.answer, written.thought))

    def length_bound(self) -> LengthBound | None:
        """Returns an upper bound on the tokens of a plain prompt and its demonstration together, for problems
        without earlier turns.

        Returns None if the tokenizer allows no bound, or if the chat template changes the texts that it
        renders.
        """
        beyond_ascii = self._encoder.tokens_per_byte()
        if beyond_ascii is None or not self._is_verbatim:
            return None
        around = (self._head, self.prompts.plain, self._tail, self._prompt_end())
        shapes = (self.turn.pieces(""), self.turn.pieces("", ""))
        return LengthBound(
            constant=sum(most_tokens(text, beyond_ascii) for text in around)
            + max(sum(most_tokens(piece.text, beyond_ascii) for piece in shape) for shape in shapes),
            num_questions=self.prompts.plain.count("{question}"),
            num_demonstrations=self.prompts.plain.count("{demonstration}") + 1,
            beyond_ascii=beyond_ascii,
        )

    def num_tokens(self, problems: Sequence[Problem]) -> list[int]:
        """Returns for each problem the number of tokens of its plain prompt and its demonstration together;
        the tokenizer uses all cores.

        Raises the errors of `plain` and `completion`.
        """
        prompts = self._encoder.encode_many([self.whole_plain(one) for one in problems])
        completions = self._completions.lengths(
            [self.whole_completion(one.demonstration) for one in problems]
        )
        return [
            (len(self.plain(problem)) if prompt is None else len(prompt))
            + (len(self.completion(problem.demonstration)) if completion is None else completion)
            for problem, prompt, completion in zip(problems, prompts, completions, strict=True)
        ]

    def completion(self, text: str) -> tuple[int, ...]:
        """Returns the token ids of a written solution as the model would produce it after the prompt, with
        what the chat template writes before and after an answer.

        If the model marks thoughts, a thought between its own tags or <think> tags is encoded with the
        model's tags; it is dropped if the prompt has closed a thought already. Raises InputError if it is
        never closed. If the model marks no thoughts, the text is encoded as it is.
        """
        written = split_text(text.strip(), self.turn.thought)
        return self.written(written.answer, written.thought)

    def written(self, answer: str, thought: str | None = None) -> tuple[int, ...]:
        """Returns the token ids of a completion with this answer and thought. The thought is dropped if the
        model marks no thoughts or if the prompt has closed one already.
        """
        if thought is None:
            return tuple(self._completions.encode_answer(answer))
        return tuple(self._completions.encode(self.turn.pieces(answer, thought)))

    def split(self, token_ids: Sequence[int]) -> CompletionIds:
        """Returns the token ids of a sampled completion's thought and answer, without what the template
        writes around the answer.
        """
        return self._completions.split(token_ids)

    def part_stream(self) -> PartStream:
        """Returns an object that splits a completion into thought and answer while it is sampled."""
        return self._completions.part_stream()

    def answer_text(self, token_ids: Sequence[int]) -> str:
        """Returns the text of the answer in a sampled completion, which is what follows its last thought.

        The text is empty while a thought is open.
        """
        return self.read(token_ids)[0]

    def read(self, token_ids: Sequence[int]) -> tuple[str, ThoughtPart | None]:
        """Returns the answer's text in a sampled completion, and its thought; None if it has no thought."""
        parts = self.split(token_ids)
        answer = self.decode(parts.answer)
        if parts.thought is None:
            return answer, None
        thought = ThoughtPart(
            text=self.decode(parts.thought).strip(),
            num_tokens=parts.num_thought_tokens,
            is_closed=parts.is_closed,
        )
        return answer.strip(), thought

    def solution(self, text: str) -> Completion:
        """Returns a solution that was not sampled, such as an expert's, as a Completion without log-probs.

        Raises InputError as `completion` does.
        """
        token_ids = self.completion(text)
        return Completion(
            token_ids=token_ids,
            text=split_text(text, self.turn.thought).answer,
            behaviour_logprobs_T=None,
            finish_reason=FinishReason.STOP,
            thought=self.read(token_ids)[1],
        )

    @property
    def is_cut_inside_a_token(self) -> bool:
        """Whether the end of the prompt and the beginning of a completion, if encoded together, share a
        token; sampling cannot produce such a token.
        """
        return self._completions.is_cut_inside_a_token

    def parts(self, answer: str) -> list[tuple[str, tuple[int, ...]]]:
        """Returns the pairs ("head", ids), ("text", ids) and ("tail", ids) of a completion with this answer.

        The head and the tail are what the chat template writes around the text. The three joined are the
        completion's ids.
        """
        pieces = self.turn.pieces(answer)
        ids = [tuple(self._completions.encode(pieces[: count + 1])) for count in range(len(pieces))]
        begun = [0, *map(len, ids)]
        names = ("head", "text", "tail")
        return [(name, whole[begin:]) for name, whole, begin in zip(names, ids, begun[:-1], strict=True)]

    def continued(self, prompt_ids: Sequence[int], text: str) -> tuple[int, ...]:
        """Returns the token ids of the prompt and of `text` as the beginning of the assistant's turn.

        A special token's name in `text` is encoded as ordinary characters.
        """
        return (*prompt_ids, *self._encoder.encode_behind(text, is_text=True))

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._encoder.decode(token_ids, skip_special_tokens=True)

    def _prompt(self, template: str, problem: Problem) -> tuple[int, ...]:
        if problem.earlier:
            return self.conversation(chat_messages(problem, template, system=self.prompts.system))
        user = user_turn(template, problem)
        if self._encoder.special.search(user):
            behind = self._encoder.encode_behind(user, is_text=True), self._encoder.encode_behind(self._tail)
            return (*self._head_ids, *behind[0], *behind[1])
        return tuple(self._encoder.encode(self._whole(user)))

    def _whole(self, user: str) -> str:
        return f"{self._head}{user}{self._tail}" if self._is_verbatim else self._render(user)

    def _render(self, user: str) -> str:
        return self._renderer.render(_turns(self.prompts.system, _user(user)), add_generation_prompt=True)

    def _prompt_end(self) -> str:
        """Returns the end of every prompt from its last marker on, or a whole prompt if its end has no
        marker.
        """
        starts = [found.start() for found in self._encoder.special.finditer(self._tail)]
        return self._tail[starts[-1] :] if starts else f"{self._head}{_CONTENT}{self._tail}"
