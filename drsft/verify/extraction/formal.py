r"""Finds formal statements of an answer: `\boxed{}`, `<answer>` tags, a JSON field "answer", a
marker `####`.
"""

import json
import re

from drsft.verify.extraction.quantities import NUMBER, with_unit
from drsft.verify.extraction.stated import value_of
from drsft.verify.extraction.statement import MAX_ANSWER_CHARS, Place, Statement

__all__ = ["boxed", "boxes", "formal_statements"]

MAX_BOXES = 20  # looked at from the end

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*")

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

# Boxes that this stands between are one answer: "\boxed{1} and \boxed{2}", "x = \boxed{1}, y = \boxed{2}".
_BETWEEN_BOXES = re.compile(
    r"(?=.*(?:,|\band\b|\bor\b|;))"
    r"(?:[\s$,;&{}]|\\(?:text|textrm|mathrm|quad|qquad|[()\[\],;! ])|\b(?:and|or)\b"
    r"|\b[A-Za-z](?:_\{?\w\}?)?\s*=)*",
    re.DOTALL,
)

_TAG = re.compile(r"<\s*(final_?answer|answer)\s*>(.{1,2000}?)<\s*/\s*\1\s*>", re.DOTALL | re.IGNORECASE)

_SENTENCE = re.compile(r"^[A-Z].*\b(?:is|are|was|were|has|have|equals)\s.*\d.*\.$")  # "The total is 48."

_FIELD = re.compile(r'"(?:final[_ ]?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|-?[\d.,]+|true|false)', re.IGNORECASE)

_MARKER = re.compile(r"^[ \t>*]*####[ \t]*([^\n]+)|(?<=[^\n#])####[ \t]*([^\n]+)", re.MULTILINE)

_BARE_VALUE = re.compile(r"[-+−]?[$€£]?\s?[\d.,/:]+\s?%?|\\?\$.{1,60}\$|\(?[A-Z]\)?")


def formal_statements(text: str) -> list[tuple[int, Statement]]:
    r"""Returns the last \boxed{}, <answer> tag, JSON field "answer" and "####" marker of a text, as pairs of
    the position where it ends and its statement.

    The list begins with the pair that ends last in the text. A kind that the text does not have is left out.
    """
    found = [boxed(text), _tagged(text), _field(text), _marked(text)]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry[0], reverse=True)


def boxed(text: str) -> tuple[int, Statement] | None:
    """Returns where the last closed box ends, and its statement; None without one.

    The statement of an empty or far too long box is "", which means that the text has no answer.
    """
    content, end = boxes(text)
    return (end, Statement(content if len(content) <= MAX_ANSWER_CHARS else "", Place.BOX)) if end else None


def boxes(text: str) -> tuple[str, int]:
    """Returns the content of the last closed box, and where it ends; ("", 0) without one.

    Several boxes without a sentence between them are joined by commas.
    """
    starts = list(_BOX.finditer(text))[-MAX_BOXES:]
    contents: list[str] = []
    following, last_end = None, 0
    for start in reversed(starts):
        content, end = _box_content(text, start.end())
        if content is None:
            continue
        if following is not None and not _BETWEEN_BOXES.fullmatch(text[end:following][:200]):
            break
        if content not in contents:
            contents.insert(0, content)
        following, last_end = start.start(), last_end or end
    return ", ".join(contents), last_end


def _box_content(text: str, position: int) -> tuple[str | None, int]:
    if position >= len(text):
        return None, position
    if text[position] != "{":  # \boxed 5
        word = re.compile(r"[^\s$\\]+").match(text, position)
        return (word.group(), word.end()) if word else (None, position)
    depth = 0
    for brace in _BRACE.finditer(text, position):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[position + 1 : brace.start()].strip(), brace.end()
    return None, position


def _tagged(text: str) -> tuple[int, Statement] | None:
    tags = list(_TAG.finditer(text)) if "<" in text else []
    if not tags:
        return None
    content = tags[-1][2].strip()
    is_sentence = _SENTENCE.search(content) is not None and "\n" not in content
    return tags[-1].end(), Statement(value_of(content) if is_sentence else content, Place.TAG)


def _field(text: str) -> tuple[int, Statement] | None:
    """Returns the last JSON field "answer", in whose text the answer is then searched."""
    fields = list(_FIELD.finditer(text)) if "nswer" in text else []
    if not fields:
        return None
    try:
        value = json.loads(fields[-1][1])
    except ValueError:
        value = fields[-1][1]
    written = value_of(value) if isinstance(value, str) else str(value)
    return (fields[-1].end(), Statement(written, Place.FIELD)) if written else None


def _marked(text: str) -> tuple[int, Statement] | None:
    """Returns `#### value` from the last line, or a bare value anywhere.

    Other lines with #### are headings.
    """
    for match in reversed(list(_MARKER.finditer(text))):
        content = (match[1] or match[2]).strip(" *")
        is_last = not text[match.end() :].strip()
        if is_last or _BARE_VALUE.fullmatch(content.rstrip(". ")):
            return match.end(), Statement(_leading_value(content), Place.MARK)
    return None


def _leading_value(content: str) -> str:
    """Returns the value that a mark begins with: 38 of "38 at the gardening shop." """
    number = NUMBER.match(content)
    if number is not None and re.match(r"\s*[A-Za-z]{2,}|\s*\d", content[number.end() :]):
        return with_unit(content, number)
    return content
