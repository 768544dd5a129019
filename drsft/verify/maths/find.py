r"""Where the answer of a solution stands: in the last box, after an "answer is", or in its last value.

Every step is linear in the text, and only the tail of a very long text is read: an answer stands at the end.
"""

import re
from dataclasses import dataclass

__all__ = ["Found", "boxes", "find_answer"]

TAIL_CHARS = 100_000
MAX_BOXES = 20  # looked at from the end
MAX_ANSWER_CHARS = TAIL_CHARS  # the judge says of a long one that it is too long, not that it is none


@dataclass(frozen=True, slots=True)
class Found:
    text: str
    where: str  # "box", "marker", "phrase", "whole text", "last value"


_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|</s>")
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# Boxes that this stands between are one answer: "\boxed{1} and \boxed{2}", "x = \boxed{1}, y = \boxed{2}".
_BETWEEN_BOXES = re.compile(
    r"(?=.*(?:,|\band\b|\bor\b|;))"
    r"(?:[\s$,;&{}]|\\(?:text|textrm|mathrm|quad|qquad|[()\[\],;! ])|\b(?:and|or)\b"
    r"|\b[A-Za-z](?:_\{?\w\}?)?\s*=)*",
    re.DOTALL,
)
_MARKER = re.compile(r"####[ \t]*([^\n]+)")
_PHRASE = re.compile(
    r"(?:\b(?:final\s+answer|answer|solution\s+is|ans\b|r[ée]ponse|respuesta|antwort)|答案|最终答案|उत्तर|الجواب|الإجابة)"
    r"[\s*_]*(?:\s(?:to|of)\s[^.\n]{0,80}?(?=\s(?:is|are)\b|:))?"
    r"\s*(?:(?:is|are|was|est|es|ist)\b[\s*_:]*|[:：=为是][\s*_:]*|(?=\$|\\\())",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"^(?:\\?[\"'`])+")
_FINAL_ANSWER = re.compile(r"final\s+answer\s+is\b", re.IGNORECASE)
_SHORT_MARKER = re.compile(r"^[ \t]*A:[ \t]*([^\n]+)$", re.MULTILINE)
_MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>[^$]+?)(?<!\\)\$"
    r"|\\\((?P<c>.{1,5000}?)\\\)|\\\[(?P<d>.{1,5000}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![\w.])(?:[-−](?=[$€£\d.]))?[$€£]?\s?"
    r"(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+(?:\.\d+)?(?!\s*=))?\s?%?"
    r"|(?<=[^\x00-\x7f])\d+(?:\.\d+)?(?:/\d+)?%?"
)
_SENTENCE_END = re.compile(r"(?<=[\w)\]}$*%°])[.。!?](?=\s|$|[*\"'])|\n")
_CONCLUSION = re.compile(
    r".*(?:\b(?:is|are|was|be|equals|equal\s+to|makes|gives|get|therefore|total\s+of)\b|=)\s*", re.DOTALL
)


def find_answer(text: str, *, is_box_required: bool = False) -> Found | None:
    """The answer as written, before any normalising; None where the text states none."""
    text = _without_special_tokens(text[-TAIL_CHARS:])
    found, end = boxes(text)
    if end:
        # A closing "final answer is" after the box is the later, and the formal, statement.
        if not is_box_required and (closing := _FINAL_ANSWER.search(text, end)) is not None:
            announced = _after_phrase(text[closing.start() :])
            if announced is not None:
                return announced
        answer = _cut(found)
        return Found(answer, "box") if answer else None
    if is_box_required:
        return None
    markers = _MARKER.findall(text)
    if markers:
        return _found(markers[-1], "marker")
    return _after_phrase(text) or _whole(text) or _last_value(text)


def boxes(text: str) -> tuple[str, int]:
    """The content of the last closed box, and where it ends; of several, if no sentence is between them."""
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


def _without_special_tokens(text: str) -> str:
    """A chat model that ran on past its turn: what follows the end-of-turn token is not its answer."""
    for token in _SPECIAL_TOKEN.finditer(text):
        if text[: token.start()].strip():
            return text[: token.start()]
    return text


def _cut(answer: str) -> str:
    return answer.strip() if len(answer) <= MAX_ANSWER_CHARS else ""


def _found(answer: str, where: str) -> Found | None:
    answer = _cut(answer)
    return Found(answer, where) if answer else None


def _after_phrase(text: str) -> Found | None:
    """What the last "answer is" announces."""
    short = _SHORT_MARKER.findall(text)
    if short:
        return _found(short[-1].strip(), "marker")
    phrases = list(_PHRASE.finditer(text))
    if not phrases:
        return None
    announced = _QUOTES.sub("", text[phrases[-1].end() :].strip())
    if not announced:
        return None
    math = _MATH.match(announced)
    if math is not None:
        # "12$ and $13" is one answer in two pieces.
        end = math.end()
        while (
            more := re.compile(r"\s*(?:,|and|or|,\s*and)\s*(?=\$|\\\()").match(announced, end)
        ) is not None:
            following = _MATH.match(announced, more.end())
            if following is None:
                break
            end = following.end()
        return _found(announced[:end], "phrase")
    statement = _first_sentence(announced)
    return _found(_value_of(statement), "phrase")


def _first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text[:500]


def _value_of(statement: str) -> str:
    """The value that a sentence states: its last mathematics or number, or itself when it is short."""
    statement = statement.strip(" *_`\"'")
    segments = list(_MATH.finditer(statement))
    numbers = list(_NUMBER.finditer(statement))
    if segments and (not numbers or numbers[-1].end() <= segments[-1].end()):
        return segments[-1].group()
    if (
        len(statement) <= 40
        and "\\" not in statement
        and not re.search(r"[a-zA-Z]{2,}.*\s[a-zA-Z]{2,}", statement)
    ):
        return statement
    if "\\" in statement or not numbers:
        return _CONCLUSION.sub("", statement) or statement
    return numbers[-1].group()


def _whole(text: str) -> Found | None:
    """A bare answer: short, one line, and no sentence."""
    bare = text.strip()
    if not bare or len(bare) > 300 or "\n" in bare.strip("$ \n"):
        return None
    without_math = _MATH.sub("", bare)
    if re.search(
        r"[A-Za-z]{2,}[^\\{}]*\s[A-Za-z]{2,}|[^\x00-\u2fff]",
        re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", "", without_math),
    ):
        return None
    if _MATH.search(bare) and re.search(r"[A-Za-z]{2,}", without_math):
        return None
    return _found(bare, "whole text")


def _last_value(text: str) -> Found | None:
    """The last mathematics or number of a solution that announces nothing."""
    if _ends_in_the_middle(text):
        return None
    tail = text[-5_000:]
    segments = list(_MATH.finditer(tail))
    last_line = next((line for line in reversed(tail.split("\n")) if _NUMBER.search(line)), "")
    position = tail.rfind(last_line) if last_line else -1
    if segments and segments[-1].end() > position + 0 and not _number_after(tail, segments[-1].end()):
        return _found(next(group for group in segments[-1].groups() if group), "last value")
    if not last_line:
        return None
    return _found(_last_number(last_line), "last value")


def _number_after(text: str, position: int) -> bool:
    return _NUMBER.search(text, position) is not None


def _last_number(line: str) -> str:
    """In "10 x 5 = 50 miles for 5 days" the value is 50: what an equation of the line arrives at."""
    sentences = [part for part in _SENTENCE_END.split(line) if _NUMBER.search(part)]
    sentence = sentences[-1] if sentences else line
    _, equals, arrived = sentence.rpartition("=")
    if equals and (number := _NUMBER.match(arrived.lstrip(" $€£*~≈"))) is not None:
        rest = arrived.lstrip(" $€£*~≈")[number.end() :]
        if not re.search(r"[;,]\s.*\d|\b(?:so|is|are|has|will|therefore)\b.*\d", rest):
            return number.group()
    numbers = _NUMBER.findall(sentence)
    return str(numbers[-1])


def _ends_in_the_middle(text: str) -> bool:
    """A long text that stops inside mathematics or brackets was cut off: it has not come to its answer."""
    if len(text) < 300:
        return False
    tail = text.rstrip()
    if tail.count("\\[") > tail.count("\\]") or tail.count("\\(") > tail.count("\\)"):
        return True
    last = tail[tail.rfind("\n") + 1 :]
    is_open = len(re.findall(r"(?<!\\)\$", last.replace("$$", ""))) % 2 == 1 and not re.search(r"\$\d", last)
    return is_open or last.count("(") > last.count(")")
