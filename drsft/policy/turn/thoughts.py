"""Finds the markers that open and close a thought, which is reasoning before the answer, in a chat
template.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from drsft.errors import InputError
from drsft.policy.turn.lexicon import Lexicon, tags_in
from drsft.policy.turn.probes import ANSWER, QUESTION, THOUGHT, THOUGHT_FORMS
from drsft.policy.turn.turn import PromptThought, Thought

__all__ = [
    "aligned_prefix",
    "counterpart",
    "held_before_the_answer",
    "prompt_state",
    "read_thought",
    "with_markers",
]

_CLOSER = re.compile(r"<[|｜]?/|\[/|<[|｜]?(END|end)(?![a-z])")
_ABOUT_THOUGHTS = re.compile(r"think|thought|reason", re.IGNORECASE)
_SPLIT_AT = re.compile(r"split\(\s*['\"](<([^<>|\s]{1,60})\|>)['\"]")  # the end of a pair <|x> … <x|>
_CLOSE_AND_OPEN = (
    (r"^</(.+)>$", r"<\1>"),
    (r"^\[/(.+)\]$", r"[\1]"),
    (r"^<\|/(.+)\|>$", r"<|\1|>"),
    (r"^<(.*)END(.*)>$", r"<\1START\2>"),
    (r"^<(.*)end_of(.*)>$", r"<\1begin_of\2>"),
    (r"^<(.*)end(.*)>$", r"<\1begin\2>"),
)
_OPEN_AND_CLOSE = (
    (r"^<\|([a-z_]+)\|>$", r"<|/\1|>"),
    (r"^<(.*)START(.*)>$", r"<\1END\2>"),
    (r"^<(.*)begin(.*)>$", r"<\1end\2>"),
    (r"^<(?![|/])(.+)>$", r"</\1>"),
    (r"^\[(?!/)(.+)\]$", r"[/\1]"),
)


def counterpart(tag: str, *, of: str, text: str) -> str | None:
    """Returns the tag that belongs to `tag`: the closing one for `of="open"`, the opening one for
    `of="close"`.

    A form that occurs in `text` is preferred. Returns None if `tag` has no known form.
    """
    rules = _OPEN_AND_CLOSE if of == "open" else _CLOSE_AND_OPEN
    candidates = [re.sub(pattern, form, tag) for pattern, form in rules if re.match(pattern, tag)]
    return next((one for one in candidates if one in text), candidates[-1] if candidates else None)


def read_thought(texts: Mapping[str, str], template: str, lexicon: Lexicon) -> Thought | None:
    """Returns how a chat template marks a thought; None for a template without thoughts.

    The markers are found in the rendering of an answer with a thought, else at the end of the generation
    prompt, else in the template's source.
    """
    prompt = texts["asked"]
    for rendered in _with_a_thought(texts):
        found = _from_rendering(rendered, prompt)
        if found is not None:
            return found
    return _from_prompt(texts, template) or _from_source(texts, template, lexicon)


def with_markers(texts: Mapping[str, str], opening: str, closing: str) -> Thought:
    """Returns a Thought with the given markers and, around them, the white space that most models write.

    If the template writes a header before an answer, a header of the answer comes after the thought and one
    of the assistant's role before it.
    """
    prompt, before = texts["asked"], texts.get("answered", "").partition(ANSWER)[0]
    state = prompt_state(prompt, opening, closing)
    is_open = state is PromptThought.OPEN
    begun = aligned_prefix(prompt, before)
    is_read = prompt[begun:].strip() in ("", opening)  # else white space or a thought parts the two
    header = before[begun:].rpartition(closing)[2].lstrip() if is_read else ""
    is_of_the_role = texts.get("asked, no prompt") == prompt and not is_open
    space = "\n" if prompt.endswith("\n") or not is_open else ""
    gap = "" if any(tag.start() == 0 for tag in tags_in(header)) else "\n\n"
    role, header = (header, "") if is_of_the_role else ("", gap + header)
    return Thought(
        open=opening,
        close=closing,
        in_prompt=state,
        before="" if is_open else f"{role}{opening}\n",
        after=f"{space}{closing}{header or gap}",
    )


@dataclass(frozen=True, slots=True)
class SplitText:
    """A solution split into its thought and its answer; `thought` is None if none is marked."""

    answer: str
    thought: str | None = None


def split_text(text: str, thought: Thought | None) -> SplitText:
    """Returns a solution split into thought and answer, by the model's own tags or by <think>.

    The answer is what follows the last end of a thought. Raises InputError for a thought without an end.
    """
    if thought is None:
        return SplitText(text)
    pairs = ((thought.open, thought.close), ("<think>", "</think>"))
    for opening, closing in pairs:
        before, found, answer = text.rpartition(closing)
        if found:
            return SplitText(answer.strip(), before.strip().removeprefix(opening).strip())
    for opening, _ in pairs:
        if text.startswith(opening):
            raise InputError(f"a solution opens a thought with {opening} and never closes it")
    return SplitText(text)


def prompt_state(prompt: str, opening: str, closing: str) -> PromptThought:
    """Returns whether the generation prompt, after the question, has opened or closed a thought."""
    behind = prompt[prompt.rfind(QUESTION) + len(QUESTION) :]
    opened, closed = behind.rfind(opening), behind.rfind(closing)
    if opened > closed:
        return PromptThought.OPEN
    is_at_the_end = closed >= 0 and not behind[closed + len(closing) :].strip()
    return PromptThought.CLOSED if is_at_the_end else PromptThought.NONE


def held_before_the_answer(texts: Mapping[str, str], lexicon: Lexicon) -> frozenset[int]:
    """Returns the token ids of the markers between generation prompt and answer, in renderings with a
    thought.
    """
    held: set[int] = set()
    for rendered in _with_a_thought(texts):
        begin = common_prefix(rendered, texts["asked"])
        held |= {mark.token_id for mark in lexicon.marks(rendered[begin : rendered.rfind(ANSWER)])}
    return frozenset(held)


def _with_a_thought(texts: Mapping[str, str]) -> Iterator[str]:
    """Yields the renderings of an answer with a thought in which the template rendered both parts
    separately.
    """
    for name, form in THOUGHT_FORMS.items():
        rendered = texts.get(f"thought: {name}", "")
        content = form["content"]
        if isinstance(content, str):
            is_copied = rendered.split() == texts["answered"].replace(ANSWER, content).split()
        else:  # the list itself, as Python or JSON writes it
            between = rendered.partition(THOUGHT)[2].partition(ANSWER)[0]
            is_copied = "type" in between and "text" in between
        is_whole = 0 <= rendered.find(THOUGHT) < rendered.find(ANSWER) and rendered.count(THOUGHT) == 1
        if is_whole and not is_copied:
            yield rendered


def _from_rendering(rendered: str, prompt: str) -> Thought | None:
    before, _, rest = rendered.partition(THOUGHT)
    between, _, behind = rest.partition(ANSWER)
    begun = aligned_prefix(before, prompt)
    behind_question = before[before.rfind(QUESTION) + len(QUESTION) :]
    opening = before[begun:].strip() if begun == len(prompt) else ""
    opening = opening or _last_marker(behind_question, between)
    closers = tags_in(between)
    closing = closers[0][0] if closers else between.strip()
    if not opening or not closing:
        return None
    if closing in behind or closing in behind_question:  # it also ends other parts: take all of them
        closing = between.strip()
    state = prompt_state(prompt, opening, closing)
    is_open = state is PromptThought.OPEN
    return Thought(
        open=opening,
        close=closing,
        in_prompt=state,
        before="" if is_open else before[begun:],
        after=between,
    )


def _last_marker(text: str, behind: str) -> str:
    """Returns the last tag and what follows it, with as many tags before it as make it unique in the turn."""
    marker = ""
    for tag in reversed(tags_in(text)):
        marker = text[tag.start() :].strip()
        if text.count(marker) == 1 and marker not in behind:
            break
    return marker


def _from_prompt(texts: Mapping[str, str], template: str) -> Thought | None:
    """Returns the thought with which the prompt ends, for templates that leave thoughts out."""
    prompt, answered = texts["asked"], texts.get("answered", "")
    tags = tags_in(prompt[prompt.rfind(QUESTION) + len(QUESTION) :])
    if not tags or not prompt.rstrip().endswith(tags[-1][0]):
        return None
    last = tags[-1][0]
    begun = aligned_prefix(prompt, answered)
    own = prompt[begun:].strip()
    if own.startswith(tuple(tag[0] for tag in tags)) and own.endswith(last) and own != last:
        opening = own[: -len(last)].strip()
        return with_markers(texts, opening, last) if _ABOUT_THOUGHTS.search(opening) else None
    if not _ABOUT_THOUGHTS.search(last):
        return None
    if _CLOSER.match(last):
        opened = counterpart(last, of="close", text=template)
        return None if opened is None else with_markers(texts, opened, last)
    closing = counterpart(last, of="open", text=template)
    return None if closing is None else with_markers(texts, last, closing)


def _from_source(texts: Mapping[str, str], template: str, lexicon: Lexicon) -> Thought | None:
    """Returns the tags that the template's source searches for, if the tokenizer has them.

    This is for templates that only cut thoughts out of an answer's text.
    """
    for tag in tags_in(template):
        if _ABOUT_THOUGHTS.search(tag[0]) and _CLOSER.match(tag[0]):
            opening = counterpart(tag[0], of="close", text=template)
            if opening in lexicon.markers and tag[0] in lexicon.markers and opening is not None:
                return with_markers(texts, opening, tag[0])
    if _ABOUT_THOUGHTS.search(template):
        for mirrored in _SPLIT_AT.finditer(template):
            opening, closing = f"<|{mirrored[2]}>", mirrored[1]
            if opening in lexicon.markers and closing in lexicon.markers and opening in template:
                return with_markers(texts, opening, closing)
    return None


def aligned_prefix(first: str, second: str) -> int:
    """Returns how many characters two texts have in common at their beginning, cut back so that no tag of
    either text is cut in two.
    """
    length = common_prefix(first, second)
    starts = [
        tag.start() for text in (first, second) for tag in tags_in(text) if tag.start() < length < tag.end()
    ]
    return min(starts, default=length)


def common_prefix(first: str, second: str) -> int:
    """Returns how many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))
