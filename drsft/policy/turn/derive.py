"""Derives the assistant's turn from renderings of test conversations (drsft/policy/turn/probes.py).

Raises ModelError if the renderings do not show the turn reliably.

With P the generation prompt, A the answered conversation's rendering and "answer" the answer in it:

- head: the text of A between P and "answer". If P ends inside a thought that A leaves out, it is the closing
  marker.
- tail: the text of A after "answer", up to the token that ends the turn. If A writes no such token, it is the
  one that opens the user's next turn, provided that the model's own files name it as an end; else the model's
  end of text.
- end: the tail's last token, never one that the rendering of a thought contains before its answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from drsft.config import ThoughtMarkers
from drsft.errors import ModelError
from drsft.policy.turn.lexicon import Lexicon, Mark, tags_in
from drsft.policy.turn.probes import (
    ANSWER,
    LONG_ANSWER,
    NEXT_ANSWER,
    NEXT_QUESTION,
    QUESTION,
    SYSTEM,
)
from drsft.policy.turn.sandbox import Renderings
from drsft.policy.turn.thoughts import aligned_prefix, held_before_the_answer, read_thought, with_markers
from drsft.policy.turn.turn import Thought, Turn

__all__ = ["derive"]


@dataclass(frozen=True, slots=True)
class _Part:
    """A head or a tail, and the reason if the template does not write it itself."""

    text: str
    reason: str | None = None


def derive(
    renderings: Renderings,
    lexicon: Lexicon,
    *,
    template: str,
    variables: Mapping[str, object],
    date: str,
    named: ThoughtMarkers | None = None,
    allows_spelt_markers: bool = False,
) -> Turn:
    """Works out from a chat template how it lays out the assistant's turn: the text around an answer, the
    end tokens and the markers of thoughts.

    `named` are the markers of thoughts that the user configured. `allows_spelt_markers` accepts markers that
    the tokenizer splits into several tokens. Raises ModelError, whose line begins with "its chat template",
    if the template does not show the layout reliably.
    """
    texts = renderings.texts
    prompt = _prompt(renderings)
    answered = _answered(renderings)
    thought = read_thought(texts, template, lexicon)
    if named is not None:
        thought = _named(texts, named, thought)
    _check_thought(thought)
    head = _head(prompt, answered, thought)
    held = held_before_the_answer(texts, lexicon)
    tail, end_id = _tail(texts, lexicon, held)
    turn = Turn(
        template=template,
        variables=dict(variables),
        date=date,
        reads_date=renderings.reads_date,
        read_variables=renderings.variables,
        prompt=prompt,
        head=head.text,
        tail=tail.text,
        end_token_ids=_ends(head.text, tail.text, end_id, held, lexicon),
        thought=thought,
        differs_because=_difference(prompt, head, tail, texts),
        system_refusal=_system_refusal(renderings),
        conversation_refusal=None,
    )
    if not allows_spelt_markers:
        _check_markers(turn, lexicon)
    return replace(turn, conversation_refusal=_conversation_refusal(turn, renderings))


def _prompt(renderings: Renderings) -> str:
    if (failure := renderings.failures.get("asked")) is not None:
        raise ModelError(
            f"its chat template fails: {failure}; set target.chat_template to one for plain questions"
        )
    prompt = renderings.texts["asked"]
    if QUESTION not in prompt:
        in_parts = QUESTION in renderings.texts.get("asked in parts", "")
        why = "; it takes content as a list of parts only" if in_parts else ""
        raise ModelError(
            f"its chat template leaves the question out of the prompt{why}; "
            "set target.chat_template to a template for plain text"
        )
    return prompt


def _answered(renderings: Renderings) -> str:
    if (failure := renderings.failures.get("answered")) is not None:
        raise ModelError(
            f"its chat template fails on an answered question: {failure}; "
            "set target.chat_template to one that renders the assistant's turn"
        )
    answered = renderings.texts["answered"]
    if answered.count(ANSWER) != 1 or answered.find(ANSWER) < answered.find(QUESTION):
        raise ModelError(
            f"its chat template writes an answer {answered.count(ANSWER)} times; "
            "set target.chat_template to one that renders the assistant's turn once"
        )
    return answered


def _check_thought(thought: Thought | None) -> None:
    if thought is not None and thought.open.endswith(thought.close):
        raise ModelError(
            f"its chat template opens and closes a thought with the same {thought.close}, so an unfinished "
            "thought cannot be recognised; set target.chat_template"
        )


def _named(texts: Mapping[str, str], named: ThoughtMarkers, read: Thought | None) -> Thought:
    """Returns the layout of a thought with the markers that the user configured.

    The text around them is the template's if it writes the same.
    """
    if read is not None and (read.open, read.close) == (named.open, named.close):
        return read
    return with_markers(texts, named.open, named.close)


def _head(prompt: str, answered: str, thought: Thought | None) -> _Part:
    before = answered.partition(ANSWER)[0]
    begun = aligned_prefix(prompt, before)
    left, right = prompt[begun:], before[begun:]
    if begun < prompt.rfind(QUESTION) + len(QUESTION):
        raise ModelError(
            "its chat template renders the question in another way once it is answered; "
            "set target.chat_template to one that does not"
        )
    if thought is not None and thought.is_open_in_prompt and thought.close not in right:
        header = right.lstrip()
        closed = thought.after if thought.after.endswith(header) else thought.after + header
        return _Part(
            closed, "the answered rendering has no thought, so the one that the prompt opens is closed"
        )
    if not left:
        return _Part(right)
    if thought is not None and left.strip() == thought.open and right.lstrip().startswith(thought.close):
        return _Part(right, f"the answered rendering leaves out the prompt's {thought.open}")
    if (behind := _behind(left, right)) is not None:
        return _Part(behind, "the generation prompt has other white space than the answered rendering")
    if thought is not None and _is_closed_thought(left, thought):
        closed, _, behind = right.rpartition(thought.close)
        return _Part(behind, "the generation prompt closes a thought that the answered rendering leaves out")
    raise ModelError(
        f"its chat template ends the generation prompt with {left.strip()[:60]!r} and begins an answered "
        f"turn with {right.strip()[:60]!r}; set target.chat_template, target.chat_template_kwargs or "
        "target.thought so that both agree"
    )


def _behind(left: str, right: str) -> str | None:
    """Returns `right` without `left` at its start, where white space may differ.

    Returns None if `right` does not start with `left`.
    """
    rest = right
    for word in left.split():
        rest = rest.lstrip()
        for char in word:
            if not rest.startswith(char):
                rest = rest.lstrip()
            if not rest.startswith(char):
                return None
            rest = rest[1:]
    return rest.lstrip() if left[-1:].isspace() else rest


def _is_closed_thought(text: str, thought: Thought) -> bool:
    before, _, rest = text.rpartition(thought.open)
    behind = rest.rpartition(thought.close)[2]
    return thought.close in rest and not before.strip() and not behind.strip()


def _tail(texts: Mapping[str, str], lexicon: Lexicon, held: frozenset[int]) -> tuple[_Part, int]:
    """Returns the tail and the id that ends it."""
    rest = texts["answered"].partition(ANSWER)[2]
    if (
        texts.get("asked, no prompt") == texts["asked"]
    ):  # a generation prompt may stand behind the answer, too
        followed = texts.get("followed", "").partition(ANSWER)[2]
        rest = rest[: aligned_prefix(rest, followed)] if followed else rest
        marks = lexicon.marks(rest)
        rest = rest[: _run(marks, 0).end] if marks else rest
    found = _written_end(rest, lexicon)
    if found is None:
        _refuse_spelt_end(rest, lexicon)
        found = _next_opener(texts, lexicon)
    if found is None:
        return _end_of_text("the template writes no end of the turn", lexicon, held)
    text, end_id = found
    if end_id in held:
        marker = text[lexicon.marks(text)[-1].start :]
        return _end_of_text(f"{marker} ends the template's turn and its thoughts, too", lexicon, held)
    return _Part(text), end_id


def _run(marks: Sequence[Mark], first: int) -> Mark:
    """Returns the last marker of the run of adjacent markers that begins at index `first`."""
    while first + 1 < len(marks) and marks[first].end == marks[first + 1].start:
        first += 1
    return marks[first]


def _written_end(rest: str, lexicon: Lexicon) -> tuple[str, int] | None:
    """Returns the text after the answer up to its end token: one of the model's own, else the template's last
    marker.
    """
    marks = lexicon.marks(rest)
    known = [index for index, mark in enumerate(marks) if mark.token_id in lexicon.ends]
    if known:
        first = known[0]
        side_by_side = [mark for mark in marks[first:] if mark.token_id in lexicon.ends]
        last = _run(side_by_side, 0)
    elif marks:
        last = marks[-1]
    else:
        return None
    return rest[: last.end], last.token_id


def _refuse_spelt_end(rest: str, lexicon: Lexicon) -> None:
    for tag in tags_in(rest):
        raise ModelError(_spelt(tag[0]))


def _next_opener(texts: Mapping[str, str], lexicon: Lexicon) -> tuple[str, int] | None:
    """Returns the token that opens the user's next turn, if the model may end its turn with it."""
    followed = texts.get("followed", "")
    between = followed.partition(ANSWER)[2].partition(NEXT_QUESTION)[0] if NEXT_QUESTION in followed else ""
    marks = lexicon.marks(between)
    for tag in tags_in(between)[:1]:
        if not marks or tag.start() < marks[0].start:
            raise ModelError(_spelt(tag[0]))
    if not marks:
        return None
    first = marks[0]
    text = between[: first.end]
    is_listed = lexicon.listed_ends is None or first.token_id in lexicon.listed_ends
    is_end = first.token_id in lexicon.ends or (
        is_listed and between[first.start : first.end] != lexicon.bos_token
    )
    return (text, first.token_id) if is_end else None


def _end_of_text(why: str, lexicon: Lexicon, held: frozenset[int]) -> tuple[_Part, int]:
    listed = lexicon.listed_ends or lexicon.ends
    for end_id in sorted(lexicon.ends, key=lambda one: (one not in listed, one != lexicon.eos_id)):
        text = lexicon.text_of(end_id)
        if end_id not in held and text is not None:
            return _Part(text, f"{why}; {text} ends it, as the model's own files say"), end_id
    raise ModelError(
        f"its chat template cannot be used for training: {why}, and the model's files name no other end "
        "token; set target.chat_template to one that writes an end token, or set eos_token in "
        "tokenizer_config.json"
    )


def _ends(head: str, tail: str, end_id: int, held: frozenset[int], lexicon: Lexicon) -> tuple[int, ...]:
    """Returns the tokens that stop sampling: the tail's last one, and the model's own ends that no completion
    contains.
    """
    inside = {mark.token_id for mark in (*lexicon.marks(head), *lexicon.marks(tail)[:-1])}
    others = [one for one in lexicon.ends if one not in held and one not in inside]
    return tuple(dict.fromkeys([end_id, *others]))


def _difference(prompt: str, head: _Part, tail: _Part, texts: Mapping[str, str]) -> str | None:
    trained = f"{prompt}{head.text}{ANSWER}{tail.text}"
    own = [texts.get(name, "") for name in ("answered", "followed", "asked again")]
    rewrites = _rewrites(texts)
    if any(text.startswith(trained) for text in own):
        return rewrites
    reasons = [part.reason for part in (head, tail) if part.reason is not None]
    if not reasons:
        raise ModelError(
            "its chat template renders no answered conversation that begins with the turn derived from it; "
            "set target.chat_template"
        )
    return "; ".join([*reasons, *([] if rewrites is None else [rewrites])])


def _rewrites(texts: Mapping[str, str]) -> str | None:
    """Returns a warning if the template changes the text of an answer, else None.

    A model's sampled text is never changed.
    """
    expected = texts["answered"].replace(ANSWER, LONG_ANSWER)
    if texts.get("answered at length") == expected:
        return None
    return "the template rewrites the text of an answer, which is trained as it stands"


def _system_refusal(renderings: Renderings) -> str | None:
    if (failure := renderings.failures.get("asked under a system turn")) is not None:
        return f"its chat template refuses a system turn: {failure}"
    rendered = renderings.texts["asked under a system turn"]
    if SYSTEM not in rendered or QUESTION not in rendered:
        return "its chat template leaves the system turn out of the prompt"
    return None


def _conversation_refusal(turn: Turn, renderings: Renderings) -> str | None:
    """Returns why later turns cannot be rendered: they must look like the first."""
    for name in ("asked again", "answered again"):
        if (failure := renderings.failures.get(name)) is not None:
            return f"its chat template refuses a conversation of several turns: {failure}"
    prompt, answered = renderings.texts["asked again"], renderings.texts["answered again"]
    if not all(text in prompt for text in (QUESTION, ANSWER, NEXT_QUESTION)):
        return "its chat template leaves earlier turns out of the prompt"
    if turn.equals_template and not answered.startswith(f"{prompt}{turn.head}{NEXT_ANSWER}"):
        return "its chat template writes a later turn in another way than the first"
    return None


def _check_markers(turn: Turn, lexicon: Lexicon) -> None:
    """Raises ModelError if a marker is spelt by several tokens: the template belongs to another tokenizer."""
    thought = turn.thought
    markers = "" if thought is None else f"{thought.open} {thought.close}"
    spelt = [
        *lexicon.spelt(turn.prompt.replace(QUESTION, " "), barred=True),
        *lexicon.spelt(f"{turn.head} {turn.tail}", barred=True),
        *lexicon.spelt(markers, barred=False),
    ]
    if spelt:
        raise ModelError(_spelt(spelt[0]))


def _spelt(marker: str) -> str:
    return (
        f"its chat template writes {marker}, which is not a single token of the tokenizer; set "
        "target.chat_template if the template belongs to another model, or target.spelt_markers: true if "
        "the model was trained with it"
    )
