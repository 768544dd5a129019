r"""Which statement of a solution is its answer: one place, one order of trust.

1. Thoughts are no statements: only what follows the last end of a thought is looked at.
2. Formal statements, the last of them: a closed `\boxed{}` (several are one answer where only commas, "and"
   or `x =` stand between them), `<answer>` tags, a field "answer" of JSON, a mark `#### value`. An
   announcement ("the answer is", in many languages) that follows a box is the later word and wins.
3. The last announcement that is not rejected ("is not 5") and no heading of what follows it.
4. A bare answer: a short text of one line that is no sentence.
5. The value that the last sentence, or the last row of a derivation, arrives at.

Every step is linear in the text, and only the tail of a very long text is read: an answer stands at the end.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drsft.verify.maths.answer import readings_of, words_of
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.syntax import Words

__all__ = [
    "Found",
    "after_thoughts",
    "announced_text",
    "boxes",
    "find_answer",
    "find_answers",
    "last_sentence",
]

TAIL_CHARS = 100_000
MAX_BOXES = 20  # looked at from the end
MAX_ANSWER_CHARS = TAIL_CHARS  # the judge says of a long one that it is too long, not that it is none
MAX_STATEMENT_CHARS = 160  # of a sentence that is tried as one answer


@dataclass(frozen=True, slots=True)
class Found:
    text: str
    where: str  # "box", "tag", "field", "marker", "phrase", "whole text", "last value"


_THOUGHT = re.compile(
    r"<\s*(?P<a>/?)\s*(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad|reflection)\s*>"
    r"|<\|(?P<b>begin|start|end)_of_(?:thought|thinking)\|>|<\|(?P<c>start|end)_thinking\|>"
    r"|◁(?P<d>/?)think▷|\[(?P<e>/?)think\]|<\|channel\|>(?P<f>\w+)<\|message\|>|^analysis(?=[A-Z].*assistantfinal)"
    r"|(?P<g>assistantfinal)",
    re.IGNORECASE | re.DOTALL,
)
_ENDS_THOUGHT = frozenset({"/", "end", "final", "assistantfinal"})


def after_thoughts(text: str) -> str | None:
    """What follows the last end of a thought, all of a text without any; None for a thought left open."""
    found = list(_THOUGHT.finditer(text))
    if not found:
        return text
    last = found[-1]
    marks = {group.lower() for group in last.groups() if group}
    return text[last.end() :] if marks & _ENDS_THOUGHT else None


_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|</s>")
_SECTION_END = re.compile(r"<eo[a-z]>")
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
_FIELD = re.compile(r'"(?:final[_ ]?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|-?[\d.,]+|true|false)', re.IGNORECASE)
_MARKER = re.compile(r"^[ \t>*]*####[ \t]*([^\n]+)|(?<=[^\n#])####[ \t]*([^\n]+)", re.MULTILINE)
_BARE_VALUE = re.compile(r"[-+−]?[$€£]?\s?[\d.,/:]+\s?%?|\\?\$.{1,60}\$|\(?[A-Z]\)?")
_VERB = r"(?:\bis|\bare|\bwas|\best|\bes|\bist|\blautet|\bé|\bè|\bni|\bto|为|是|は|은|는|คือ|హ)"
_NOUN = (
    r"(?:\b(?:final\s+answers?|answers?|solution\s+is|ans\b|r[ée]ponse|respuesta|antwort|antwoord|resposta|risposta"
    r"|cevap|jibu|odpowied[zź]|đáp\s+án)|ответ|答案|最终答案|答え|答|정답|उत्तर|উত্তর|الجواب|الإجابة|సమాధానం|คำตอบ)"
)
_PHRASE = re.compile(
    rf"{_NOUN}[\s*_]*(?:\s(?:to|of|for)\s[^.\n]{{0,80}}?(?=\s(?:is|are)\b|:))?"
    rf"\s*(?:(?P<verb>{_VERB}(?![a-zé])[\s*_:：]*)|(?P<colon>[:：=】\]][\s*_:：]*|[-–—]\s)|(?=\$|\\\())",
    re.IGNORECASE,
)
_SHORT_MARKER = re.compile(r"^[ \t]*(?:A|Ans|Ответ|R)\s*:[ \t]*([^\n]+)$", re.MULTILINE)
_HEADING = re.compile(
    r"^#+[ \t]*(?:final[ \t]+)?answer[ \t]*:?[ \t]*\n+[ \t]*([^\n]{1,200})", re.MULTILINE | re.I
)
_REJECTED = re.compile(
    r"[\s*]*(?:not\b|n['’]t\b|neither\b|wrong\b|incorrect\b|correct\b|right\b|as\s+follows|不是|nicht\b|pas\b)",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"^(?:\\?[\"'`“])+")
_MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>[^$]+?)(?<!\\)\$"
    r"|\\\((?P<c>.{1,5000}?)\\\)|\\\[(?P<d>.{1,5000}?)\\\]"
    r"|\\begin\{(?P<env>align|aligned|equation|gather|eqnarray)\*?\}(?P<e>.{1,5000}?)\\end\{(?P=env)\*?\}",
    re.DOTALL,
)
_AMOUNT = re.compile(r"\d[\d,.]*(?:\W|\W.*\W)?\s", re.DOTALL)  # between two money signs
_NUMBER = re.compile(
    r"(?<![\w.])(?:[-−](?=[$€£\d.])|(?:(?<=is )|(?<=was )|(?<== ))[-−]\s(?=\d))?[$€£]?\s?"
    r"(?:\d+(?::\s?\d+)+(?:\s?[AaPp]\.?[Mm]\b\.?)?|\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"(?:\s?/\s?\d+(?:\.\d+)?(?!\s*=))?\s?%?"
    r"|(?<=[^\x00-\x7f])-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?"
)
_BARE_LATEX = re.compile(
    r"-?\d*\s*(?:\\[dtc]?frac\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\d)\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\d)"
    r"|\\sqrt(?:\[\d\])?\s*(?:\{[^{}]*\}|\d)|\\pi(?![a-z]))"
)
_ABBREVIATION = "".join(rf"(?<!\b{word})" for word in ("Mt", "Dr", "St", "Mr", "Mrs", "Ms", "Rs", "vs", "No"))
_SUBJECT = re.compile(r"\W*\$?\d[\d,.]*\s+[a-z]")
_COMPARED = re.compile(r"\b(?:than|least|most|exactly|every|each|about)\s+\$?$")
_UNIT_WORD = (
    r"(?:square\s|cubic\s)?(?:thousand|million|billion|trillion|percent|hours?|minutes?|seconds?|days?|weeks?|km/h(?:our)?|mph|m/s(?:\^2)?"
    r"|(?:centi|kilo|milli)?met(?:er|re)s?|(?:kilo|milli)?grams?|(?:milli)?lit(?:er|re)s?|feet|foot|inch(?:es)?|miles?"
    r"|(?:sq\.?\s|square\s)?(?:km|cm|mm|m|ft)(?:\^\{?[23]\}?|²|³)?|kg|mL|ml|ounces?|pounds|dollars?|cents?|years?|months?)(?![A-Za-z])"
)
_COUNTED = r"\$?\d[\d,.]*\s[a-z]+(?:\s[a-z]+){0,2}"
_COUNTS = re.compile(rf"{_COUNTED}(?:(?:,\s*(?:and\s)?|\sand\s){_COUNTED})*")
_QUANTITY = re.compile(
    rf"(?:(?<![\d)\w])[-−])?\$?\s?\d[\d,]*(?:\.\d+)?\s?{_UNIT_WORD}(?:(?:,?\s(?:and\s)?)\d[\d,]*(?:\.\d+)?\s?{_UNIT_WORD})*"
)
_SENTENCE_END = re.compile(
    rf"(?<=[\w)\]}}$*%°\"”]){_ABBREVIATION}(?<!\b[ap]\.m)(?<!\b[A-Z])[.!?](?=\s|$|[*\"'])|[。．!?！？]|\n"
    r"|(?<=\b[ap]\.m)\.(?=\s+[A-Z]|$)|(?<=\b[A-Z])\.(?=\s*$|\n)"
)
_CONCLUSION = re.compile(
    r".*(?:\b(?:is|are|was|be|equals|equal\s+to|makes|gives|get|therefore|total\s+of)\b|=)\s*", re.DOTALL
)
_REASON = re.compile(
    r"[\s,;]+(?:because|since|as|which|when|after|so|for|by|due|while|but)\b.*|\s*[，,]?因为.*", re.DOTALL
)
_INEQUALITY = re.compile(
    r"\$?\b([a-z])\$?\s+(?:is|must be|has to be)\s+(greater|more|larger|less|smaller)\s+than\s+"
    r"(or\s+equal\s+to\s+)?\$?(negative\s+)?(\d+(?:\.\d+)?)"
)
_NEGATIVE = re.compile(r"\b(?:negative|minus)\s+(?=\d)")
_INFINITE = re.compile(r"[-+−]?\s?(?:∞|\\infty|\binfinity\b)")
_STEPWISE = re.compile(r"(?:step|schritt|étape|paso|passo|шаг|步骤)[^.:\n]{0,15}$", re.IGNORECASE)
_THERE_ARE = re.compile(
    r"\b[Tt]here\s+(?:are|is|were|was|will be)\s+(?:a total of |only |exactly |now )?"
    r"(\d[\d,]*(?:\.\d+)?)\s+[a-z]"
)


def find_answer(text: str, *, is_box_required: bool = False) -> Found | None:
    """The answer as written, before any normalising; None where the text states none."""
    return next(find_answers(text, is_box_required=is_box_required), None)


def find_answers(text: str, *, is_box_required: bool = False) -> Iterator[Found]:
    """What may be the answer, the most trusted first; each is stated somewhere in the text."""
    said = after_thoughts(text[-TAIL_CHARS:])
    if said is None:
        return
    text = _without_special_tokens(_SECTION_END.sub("\n", said))
    box, end = boxes(text)
    if is_box_required:
        if end and _cut(box):
            yield Found(_cut(box), "box")
        return
    formal = [(end, Found(_cut(box), "box"))] if end else []
    formal += [found for found in (_tagged(text), _field(text), _marked(text)) if found is not None]
    formal.sort(key=lambda entry: entry[0], reverse=True)
    if formal:
        announced = _after_phrase(text[formal[0][0] :], is_second_word=True)
        if announced is not None and _is_value(announced.text):
            yield announced
    for _, found in formal:
        if not found.text:
            return  # an empty box: the answer was to stand there
        yield found
    for search in (_after_phrase, _whole, _last_value):
        if (informal := search(text)) is not None:
            yield informal


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


def _is_value(answer: str) -> bool:
    return any(character.isdigit() for character in answer) or "\\" in answer or len(answer) < 20


def _tagged(text: str) -> tuple[int, Found] | None:
    tags = list(_TAG.finditer(text)) if "<" in text else []
    return (tags[-1].end(), Found(tags[-1][2].strip(), "tag")) if tags else None


def _field(text: str) -> tuple[int, Found] | None:
    """The last field "answer" of JSON, whose text is searched in its turn."""
    fields = list(_FIELD.finditer(text)) if "nswer" in text else []
    if not fields:
        return None
    try:
        value = json.loads(fields[-1][1])
    except ValueError:
        value = fields[-1][1]
    written = _value_of(value) if isinstance(value, str) else str(value)
    return (fields[-1].end(), Found(written, "field")) if written else None


def _marked(text: str) -> tuple[int, Found] | None:
    """`#### value`: in the last line, or a bare value anywhere; other lines with #### are headings."""
    for match in reversed(list(_MARKER.finditer(text))):
        content = (match[1] or match[2]).strip(" *")
        is_last = not text[match.end() :].strip()
        if is_last or _BARE_VALUE.fullmatch(content.rstrip(". ")):
            return match.end(), Found(_leading_value(content), "marker")
    return None


def _leading_value(content: str) -> str:
    """ "38 at the gardening shop." after a mark is 38."""
    number = _NUMBER.match(content)
    if number is not None and re.match(r"\s*[A-Za-z]{2,}|\s*\d", content[number.end() :]):
        return _with_unit(content, number)
    return content


def _after_phrase(text: str, *, is_second_word: bool = False) -> Found | None:
    """What the last "answer is" announces; after a box only a whole sentence or line takes the box back."""
    short = _SHORT_MARKER.findall(text)
    if short:
        return _found(short[-1].strip(), "marker")
    if headings := _HEADING.findall(text):
        return _found(_value_of(headings[-1]), "phrase")
    for phrase in reversed(list(_PHRASE.finditer(text))):
        announced = _QUOTES.sub("", text[phrase.end() :].strip())
        if not announced or _REJECTED.match(announced):
            continue
        line_start = text[text.rfind("\n", 0, phrase.start()) + 1 : phrase.start()]
        if is_second_word and phrase["verb"] is None and re.search(r"\w", line_start):
            continue
        statement = _first_sentence(announced)
        is_stepwise = _STEPWISE.search(text[: phrase.start()]) is not None
        if phrase["verb"] is None and (is_stepwise or _is_heading(statement, announced)):
            return _last_value(announced)
        return _found(_value_of(statement), "phrase")
    return None


def announced_text(text: str) -> str:
    """All that follows the last announcement, up to the end of its paragraph; "" without one."""
    phrases = list(_PHRASE.finditer(text[-TAIL_CHARS:]))
    return text[-TAIL_CHARS:][phrases[-1].end() :].split("\n\n")[0].strip() if phrases else ""


def _is_heading(statement: str, announced: str) -> bool:
    """ "Answer: A crate holds 6 jars and there are 7. So there are ...": an answer is announced, not said."""
    is_sentence = len(re.findall(r"[^\W\d_]{2,}", _MATH.sub("", statement))) >= 4
    rest = announced[len(statement) :].split("\n\n")[0]
    return is_sentence and bool(_NUMBER.search(rest))


def last_sentence(text: str) -> str:
    """The last sentence that says something."""
    sentences = [part.strip() for part in _SENTENCE_END.split(text.strip()) if part and part.strip(" *_`$")]
    return sentences[-1] if sentences else ""


def _first_sentence(text: str) -> str:
    """Up to the first end of a sentence that is not inside mathematics."""
    inside = [match.span() for match in _MATH.finditer(text[:2_000]) if not _is_amount(match)]
    for end in _SENTENCE_END.finditer(text[:2_000]):
        if not any(start < end.start() < stop for start, stop in inside):
            return text[: end.start()]
    return text[: max(500, inside[0][1] if inside and inside[0][0] == 0 else 0)]


def _is_amount(match: "re.Match[str]") -> bool:
    """Two money signs ("$182, $128") enclose no mathematics."""
    is_followed = match.string[match.end() : match.end() + 1].isdigit()
    return bool(match["b"]) and is_followed and _AMOUNT.fullmatch(match["b"]) is not None


def _is_readable(statement: str) -> bool:
    """Whether a whole statement is one answer: a value with its unit, a list, a time, a relation."""
    if len(statement) > MAX_STATEMENT_CHARS:
        return False
    readings = readings_of(clean(statement))
    return bool(readings) and not isinstance(readings[0], Words)


def _value_of(statement: str) -> str:
    """The value that a sentence states: itself where it can be read, or its last mathematics or number."""
    statement = statement.strip(" *_`\"'”")
    if (relation := _in_words(statement)) is not None:
        return relation
    statement = _NEGATIVE.sub("-", statement)
    for candidate in (_REASON.sub("", statement), statement, statement.rpartition(": ")[2]):
        if candidate and _is_readable(candidate):
            return candidate
    if words_of(_REASON.sub("", statement)) and len(statement) < 200:
        return _REASON.sub("", statement)
    return _last_of(statement)


def _in_words(statement: str) -> str | None:
    """ "x is greater than or equal to negative 2" is x >= -2."""
    match = _INEQUALITY.search(statement)
    if match is None:
        return None
    sign = (">" if match[2] in ("greater", "more", "larger") else "<") + ("=" if match[3] else "")
    return f"{match[1]} {sign} {'-' if match[4] else ''}{match[5]}"


def _last_of(statement: str) -> str:
    segments = [segment for segment in _MATH.finditer(statement) if not _is_amount(segment)]
    numbers = list(_NUMBER.finditer(statement))
    if segments and (not numbers or numbers[-1].end() <= segments[-1].end()):
        return segments[-1].group()
    if (bare := _bare_latex(statement)) is not None:
        return bare
    if (
        len(statement) <= 40
        and "\\" not in statement
        and not (numbers and re.search(r"[\u0600-\uffff]", statement))
        and not re.search(r"[a-zA-Z]{2,}.*\s[a-zA-Z]{2,}", statement)
    ):
        return statement
    if "\\" in statement or not numbers:
        return _CONCLUSION.sub("", statement) or statement
    return _with_unit(statement, numbers[-1])


def _with_unit(sentence: str, number: "re.Match[str]") -> str:
    """A number of prose with the unit or the scale written after it, and with the larger unit before it."""
    for quantity in _QUANTITY.finditer(sentence):
        if (
            quantity.start() <= number.end() - 1 < quantity.end()
            and number.group().strip() in quantity.group()
        ):
            return quantity.group().strip()
    return number.group()


def _bare_latex(sentence: str) -> str | None:
    """The last fraction or root that stands in prose without dollar signs, unless a number follows it."""
    if "\\" not in sentence:
        return None
    found = list(_BARE_LATEX.finditer(_MATH.sub(lambda match: " " * len(match.group()), sentence)))
    if not found:
        return None
    following = _NUMBER.search(sentence, found[-1].end())
    return None if following is not None else found[-1].group().strip()


def _whole(text: str) -> Found | None:
    """A bare answer: short, one line, and no sentence."""
    bare = text.strip().strip("*_` ").strip()
    if not bare or len(bare) > 300 or "\n" in bare.strip("$ \n"):
        return None
    if _COUNTS.fullmatch(bare.rstrip(".")):
        return _found(bare.rstrip("."), "whole text")
    without_math = _MATH.sub("", bare)
    if re.search(
        r"[^\W\d_]{2,}[^\\{}]*\s[^\W\d_]{2,}",
        re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", "", without_math),
    ):
        return None
    if re.search(r"[^\x00-\u2fff]", without_math) and (
        _NUMBER.search(bare) or not words_of(bare.strip("。"))
    ):
        return None
    if _MATH.search(bare) and re.search(r"[A-Za-z]{2,}", without_math):
        return None
    if "\\begin{align" in bare:
        return None
    if "; " in bare and bare.count("=") > 1:
        bare = bare.rpartition("; ")[2]
    return _found(_arrived(bare) if "[" in bare else bare, "whole text")


def _last_value(text: str) -> Found | None:
    """The last mathematics or number of a solution that announces nothing."""
    if _ends_in_the_middle(text):
        return None
    if (relation := _in_words(last_sentence(text[-500:]))) is not None:
        return _found(relation, "last value")
    tail = text[-5_000:]
    end = last_sentence(tail)
    if (infinite := _INFINITE.findall(end)) and not _NUMBER.search(end):
        return _found(infinite[-1], "last value")
    segments = [segment for segment in _MATH.finditer(tail) if not _is_amount(segment)]
    while len(segments) > 1 and re.fullmatch(r"\s*[A-Za-z]\s*", _content(segments[-1])):
        segments.pop()  # "$m = 9$ after solving for $m$"
    lines = [line for line in re.split(r"\n", tail) if _NUMBER.search(line) or _BARE_LATEX.search(line)]
    last_line = lines[-1] if lines else ""
    position = tail.rfind(last_line) if last_line else -1
    if segments and segments[-1].end() > position and not _number_after(tail, segments[-1].end()):
        return _found(_arrived(_last_row(_content(segments[-1]))), "last value")
    if not last_line:
        return None
    return _found(_last_number(last_line), "last value")


def _arrived(statement: str) -> str:
    """What "S + 1 = 2^{32}" or an unreadable "M[0][1] = (3, 6)" arrives at; x = 2 as it stands."""
    left, equals, right = statement.rpartition("=")
    if not equals or left.rstrip().endswith(("<", ">", "!", "\\")) or not _is_readable(right):
        return statement
    is_number = not re.search(r"[A-Za-z]", re.sub(r"\\(?:[dt]?frac|sqrt|pi|cdot|times)(?![a-z])", "", right))
    is_computation = is_number and re.search(r"[-+*/^\d(]", left.strip(" $")) is not None
    return right if is_computation or not _is_readable(statement) else statement


def _content(segment: "re.Match[str]") -> str:
    return next((segment[name] for name in "abcde" if segment[name]), "")


def _last_row(content: str) -> str:
    r"""What a derivation arrives at: its last row, without the sign that continues the row before."""
    content = re.sub(r"\\(?:begin|end)\{(?:align|aligned|split|gathered)\*?\}(?:\{[lcr]+\})?", "", content)
    if "\\begin" in content:
        _, end, rest = content.rpartition("\\end")
        content = rest[rest.find("}") + 1 :] if "\\\\" in rest else content
        if not end or "\\begin" in content:
            return content
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", content) if row.strip(" &\n.,$")]
    if len(rows) < 2:
        return content
    return re.sub(r"^\s*(?:=|\\approx|\\therefore|\\Rightarrow|\\implies)\s*", "", rows[-1].replace("&", " "))


def _number_after(text: str, position: int) -> bool:
    return _NUMBER.search(text, position) is not None


def _last_number(line: str) -> str:
    """In "10 x 5 = 50 miles for 5 days" the value is 50: what an equation of the line arrives at."""
    sentences = [
        part for part in _SENTENCE_END.split(line) if part and (_NUMBER.search(part) or "\\" in part)
    ]
    sentence = sentences[-1] if sentences else line
    if (relation := _in_words(sentence)) is not None:
        return relation
    sentence = _NEGATIVE.sub("-", sentence)
    if (bare := _bare_latex(sentence)) is not None:
        return bare
    _, equals, arrived = sentence.rpartition("=")
    if equals and (number := _NUMBER.match(arrived.lstrip(" $€£*~≈"))) is not None:
        rest = arrived.lstrip(" $€£*~≈")[number.end() :]
        if not re.search(r"[;,]\s.*\d|\b(?:so|is|are|has|will|therefore)\b.*\d", rest):
            return _with_unit(arrived.lstrip(" $€£*~≈"), number)
    if (count := _THERE_ARE.search(sentence)) is not None:
        return count[1]
    numbers = list(_NUMBER.finditer(sentence))
    if not numbers:
        return list(_NUMBER.finditer(line))[-1].group()
    if _SUBJECT.match(sentence) and _COMPARED.search(sentence[: numbers[-1].start()]):
        return numbers[0].group()  # 38 people saw fewer than 3 whales
    return _with_unit(sentence, numbers[-1])


def _ends_in_the_middle(text: str) -> bool:
    """A long text that stops inside mathematics or brackets was cut off: it has not come to its answer."""
    tail = text.rstrip()
    if tail.endswith(("+", "/", "=", "(", "*")) and not tail.endswith("**"):
        return True
    if len(text) < 300:
        return False
    if tail.count("\\[") > tail.count("\\]") or tail.count("\\(") > tail.count("\\)"):
        return True
    last = tail[tail.rfind("\n") + 1 :]
    is_open = len(re.findall(r"(?<!\\)\$", last.replace("$$", ""))) % 2 == 1 and not re.search(r"\$\d", last)
    return is_open or last.count("(") > last.count(")")
