"""Finds the conclusion of a text that announces nothing: its last sentence, or the last row of its
derivation.
"""

import re

from drsft.verify.extraction.quantities import (
    LABELS,
    NEGATIVE,
    NUMBER,
    inequality_in_words,
    labels_in_words,
    with_unit,
)
from drsft.verify.extraction.sentences import (
    MATH,
    SENTENCE_END,
    content_of,
    is_amount,
    is_refusal,
    last_sentence,
    without_offer,
)
from drsft.verify.extraction.stated import BARE_LATEX, bare_latex, is_readable
from drsft.verify.extraction.statement import Place, Statement
from drsft.verify.words import NUMBER_WORDS

__all__ = ["ASSIGNMENTS", "arrived_at", "concluded"]

_SUBJECT = re.compile(r"\W*\$?\d[\d,.]*\s+[a-z]")

_COMPARED = re.compile(r"\b(?:than|least|most|exactly|every|each|about)\s+\$?$")

_INFINITE = re.compile(r"(?:[-+−]|\b(?:negative|minus)\s)?\s?(?:∞|\\infty|\binfinity\b)")

_THERE_ARE = re.compile(
    r"\b[Tt]here\s+(?:are|is|were|was|will be)\s+(?:a total of |only |exactly |now )?"
    r"(?=\d[\d,]*(?:\.\d+)?\s+[a-z])"
)


# "so x = 3 and y = 2": the values of several names are one answer.
_VALUE = r"[-−]?\s?(?:\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?|\\[dt]?frac\s?\{[^{}]*\}\s?\{[^{}]*\})"
_NAMED = rf"\$?\b([A-Za-z](?:_\{{?\w\}}?)?)\s*=\s*{_VALUE}\$?"
ASSIGNMENTS = re.compile(rf"{_NAMED}(?:\s*(?:,|;|\band\b|,\s*and\b)\s*{_NAMED})+\W*$")
_CONDITION = re.compile(r"\b(?:when|if|for|at|where|with)\s+\$?$", re.IGNORECASE)  # "when x = 1, m = 2"
_NAME = re.compile(r"\b([A-Za-z](?:_\{?\w\}?)?)\s*=")
# What a sentence without a number says: "it is odd", "it falls on a Friday", "there are no roots", "Yes, it".
_SAID = re.compile(
    r"(?:\b(?:is|are|was|were|becomes?|remains?|fac(?:es?|ing)|points?|pointing|head(?:s|ing)|falls\son|on)\s+(?:(?:therefore|thus|indeed|a|an)\s+)?([A-Za-z]{3,}(?:-[a-z]+)*)"
    r"|(?:^|\bthat\s)[Tt]here\s+(?:is|are)\s+(no\s[^.,;]+)(?:,\s+which\b.*)?|^(yes|no)\s*,.*)\W*$",
    re.IGNORECASE,
)
_DATE_AT_END = re.compile(
    r"\b(\d{1,2}(?:st|nd|rd|th)?\s(?:of\s)?[A-Z][a-z]{2,8},?\s\d{4}|[A-Z][a-z]{2,8}\.?\s\d{1,2}(?:st|nd|rd|th)?,?\s\d{4})\W*$"
)
# "Since it is divisible by 2, the number is even": the ground is not what is said.
_GROUND = re.compile(r"^(?:Since|Because|As)\s[^,]+,\s(?=[^\d$\\]*$)")
_MISSING = re.compile(r"\b(do(?:es)? not exist)\W*$")
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|if|whether|but|unless|false that)\b|n['’]t\b", re.IGNORECASE
)
# Alternatives for one name: "$x = 2$ or $x = 7$".
_ALTERNATIVES = re.compile(r"\$[^$]{1,60}\$(?:\s*,?\s*\b(?:or|and)\s+\$[^$]{1,60}\$)+(?=\W*$)")
_COUNTS_AT_END = re.compile(
    r"(?<![\d.,$=+*/-])(?<![=+*/-]\s)(\d[\d,]*\s[a-z]{3,}(?:,\s\d[\d,]*\s[a-z]{3,})*,?\sand\s\d[\d,]*\s[a-z]{3,})\W*$"
)
_FURTHER_VALUE = re.compile(r"\s*(?:,|\bor\b|\band\b)\s*[-−]?\d")  # x = -4 or 4
# "There are six routes", "six routes in total".
_IN_WORDS = rf"({'|'.join(sorted(NUMBER_WORDS, key=len, reverse=True))})"
_COUNT_IN_WORDS = re.compile(
    r"\bthere\s+(?:are|is|were|will\sbe|must\sbe)\s+(?:(?:therefore|thus|hence|only|exactly|precisely|a\stotal\sof)\s+)*"
    rf"{_IN_WORDS}\b|\b{_IN_WORDS}\s(?:\w+\s){{0,3}}(?:in\stotal|altogether|in\sall)\W*$",
    re.IGNORECASE,
)
# What stands behind a conclusion and concludes nothing: a note, a sentence in brackets, a table.
_TABLE = re.compile(r"\\begin\{tabular\}.*?\\end\{tabular\}", re.DOTALL)
_REMARK = re.compile(
    r"(?<=[.!?$)\]])\s{1,9}(?:[(\[]?\**(?:Note|Remark|Alternatively|Comment)\**\s?[:,](?:(?!\b(?:[Hh]ence|[Tt]herefore|[Tt]hus|[Ss]o|answer)\b).)*"
    r"|[(\[][A-Z][^()\[\]]{3,300}[)\]])\s*$",
    re.DOTALL,
)
# The numbers of statements: "正确的是①④", "the true ones are (1) and (3)".
_AND = r"(?:,\s*(?:and\s+)?|\s+and\s+)"
_STATEMENT = r"(?:\(\d{1,2}\)|[①-⑳])"
_STATEMENTS = re.compile(
    r"(?:(?:[是为有选:：]|\b(?:is|are):?\s|^)\s*([①-⑳](?:(?:[\s、,，和与]|\band\s)*[①-⑳])*)"
    rf"|\bare:?\s+(\(\d{{1,2}}\)(?:{_AND}\(\d{{1,2}}\))+)"
    rf"|^(?:\W*(?:so|thus|hence|therefore|only)\b,?\s)*(?:only\s)?(?:(?:the\s)?[a-z]+s\s)?({_STATEMENT}(?:{_AND}{_STATEMENT})*)\s?"
    r"(?:(?:are|is)\s(?:the\s)?(?:correct|true|right)(?:\sones?)?|(?:是|都|均)*(?:正确|成立)的?))[。.*\s]*$",
    re.IGNORECASE,
)
_SPLIT_PRODUCT = re.compile(r"(?<![\w.,$])(\d+)\$\s*(?=\\(?:sqrt|pi|frac))")  # 5$\sqrt{3}$
_AMOUNT = r"\$?\d[\d,.]*(?:\s\w+)?"
_BETWEEN = re.compile(rf"\bbetween\s+{_AMOUNT}\s+and\s+{_AMOUNT}\W*$")  # a range is no value
_AFTERTHOUGHT = re.compile(
    r"[\s,;]+(?:because|since)\b(?:(?!,\s+[a-z]).)*$|,\s+as\s.*\b(?:shows?|expected|required)\b.*", re.DOTALL
)
_ENDS_IN_QUESTION = re.compile(r"[?？][\s*_\"'”)]*$")
_ITEM = (
    r"(?:(?<!\\)\$[^$]{1,60}(?<!\\)\$|[-−]?[$€£]?(?:\d[\d,.]*)?\d(?:/\d+)?%?)"
    r"(?:\s?(?!and\b|or\b)(?:[a-z]+|\$[^$]{1,60}\$)){0,3}"
)
# "$2$ and $9$", "4 dogs and 7 cats"; or one value that is half outside its mathematics: "24 $m^2$".
_SEVERAL = re.compile(
    rf"{_ITEM}(?:(?:,\s*(?:and\s|or\s)?|;\s*|\s(?:and|or)\s){_ITEM})+|\d[\d,.]*\s?\$[^$]+\$"
)
_BRACKETED = re.compile(r"[(\[{][^()\[\]{}=]*\d[^()\[\]{}=]*,[^()\[\]{}=]*[)\]}]")  # [2, 3, 5]
_STATES = re.compile(
    r"\b(?:is|are|was|were|be|equals?|makes?|gives?|leaves?|totals?|has|have|had)\b:?\s+"
    r"(?:(?:a\s+total\s+of|only|exactly|now|equal\s+to|about|approximately|therefore|thus)\s+)*",
    re.IGNORECASE,
)


def concluded(text: str) -> Statement | None:
    """Returns the answer that a text's last sentence or derivation arrives at; None for a question, a refusal
    or a cut-off text.
    """
    text = _REMARK.sub("", _TABLE.sub("", without_offer(text)[-5_000:]).rstrip())
    tail = _SPLIT_PRODUCT.sub(r"$\1", text[-5_000:])
    end = last_sentence(tail)
    if _ends_in_the_middle(text) or _ENDS_IN_QUESTION.search(tail) or is_refusal(end):
        return None
    if (stated := inequality_in_words(end) or _stated_at_end(end)) is not None:
        return Statement.of(stated, Place.CONCLUSION)
    if (known := _without_afterthought(end)) != end:
        tail = text = text[: text.rfind(end)] + known
    if (infinite := _INFINITE.findall(end)) and not NUMBER.search(end):
        return Statement.of(infinite[-1], Place.CONCLUSION)
    segments = [segment for segment in MATH.finditer(tail) if not is_amount(segment)]
    while len(segments) > 1 and re.fullmatch(r"\s*[A-Za-z]\s*", content_of(segments[-1])):
        segments.pop()  # "$m = 9$ after solving for $m$"
    lines = [line for line in re.split(r"\n", tail) if NUMBER.search(line) or BARE_LATEX.search(line)]
    last_line = lines[-1] if lines else ""
    position = tail.rfind(last_line) if last_line else -1
    if segments and segments[-1].end() > position and not _number_after(tail, segments[-1].end()):
        return Statement.of(arrived_at(_last_row(content_of(segments[-1]))), Place.CONCLUSION)
    if not last_line:
        return None
    return Statement.of(_last_number(last_line), Place.CONCLUSION)


def _without_afterthought(sentence: str) -> str:
    """Returns the sentence up to its result: "x = 8, as 2 * 8 = 16 shows" becomes "x = 8"."""
    known = _AFTERTHOUGHT.sub("", sentence)
    return known if NUMBER.search(known) or MATH.search(known) else sentence


def _stated_at_end(sentence: str) -> str | None:
    """Returns the several values that a sentence gives by name or after a verb, or a sentence without numbers
    itself.
    """
    if (statements := _STATEMENTS.search(sentence)) is not None:
        return statements[statements.lastindex or 0]
    if (dated := _DATE_AT_END.search(sentence)) is not None and is_readable(dated[1]):
        return dated[1]
    sentence = _GROUND.sub("", sentence)
    if not NUMBER.search(sentence) and not MATH.search(sentence):
        if (missing := _MISSING.search(sentence)) is not None:
            return missing[1]
        said = _COUNT_IN_WORDS.search(sentence) or _SAID.search(sentence)
        if said is None or _DENIED.search(sentence):
            return None
        words = said[said.lastindex or 0]
        return str(NUMBER_WORDS.get(words.lower(), words))
    if (labels := LABELS.search(sentence)) is not None and not sentence[labels.end() :].strip(" .*"):
        return labels.group()
    counts = _COUNTS_AT_END.search(sentence)
    if counts is not None and "=" not in sentence and is_readable(counts[1]):
        return counts[1]
    if (labelled := labels_in_words(sentence)) is not None:
        return labelled
    alternatives = _ALTERNATIVES.search(sentence)
    if alternatives is not None and len(set(_NAME.findall(alternatives.group()))) == 1:
        return alternatives.group()
    named = ASSIGNMENTS.search(sentence)
    is_condition = named is not None and _CONDITION.search(sentence[: named.start()]) is not None
    if named is not None and not is_condition and len(set(_NAME.findall(named.group()))) > 1:
        return named.group().replace("$", "").strip(" .")
    for verb in _STATES.finditer(NEGATIVE.sub("-", sentence)):
        candidate = verb.string[verb.end() :].strip(" .*_")
        is_several = _SEVERAL.fullmatch(candidate) or _BRACKETED.fullmatch(candidate)
        if is_several and is_readable(candidate):
            return candidate
    return None


def arrived_at(statement: str) -> str:
    """Returns the right-hand side of a computation ("S + 1 = 2^{32}"), or of an equation that does not parse.

    Any other statement, such as "X = 2", is returned unchanged.
    """
    left, equals, right = statement.rpartition("=")
    if not equals or left.rstrip().endswith(("<", ">", "!", "\\")) or not is_readable(right):
        return statement
    is_number = not re.search(r"[A-Za-z]", re.sub(r"\\(?:[dt]?frac|sqrt|pi|cdot|times)(?![a-z])", "", right))
    is_computation = is_number and re.search(r"[-+*/^\d(]", left.strip(" $")) is not None
    return right if is_computation or not is_readable(statement) else statement


def _last_row(content: str) -> str:
    r"""Returns the last row of a derivation, without the sign that continues the row before."""
    content = re.sub(r"\\(?:begin|end)\{(?:align|aligned|split|gathered)\*?\}(?:\{[lcr]+\})?", "", content)
    if "\\begin" in content:
        _, end, rest = content.rpartition("\\end")
        content = rest[rest.find("}") + 1 :] if "\\\\" in rest else content
        if not end or "\\begin" in content:
            return content
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", content) if row.strip(" &\r\n.,$")]
    if len(rows) < 2:
        return content
    return re.sub(r"^\s*(?:=|\\approx|\\therefore|\\Rightarrow|\\implies)\s*", "", rows[-1].replace("&", " "))


def _number_after(text: str, position: int) -> bool:
    return NUMBER.search(text, position) is not None


def _last_number(line: str) -> str:
    """Returns the value of the line's last equation: 50 in "10 x 5 = 50 miles for 5 days"."""
    sentences = [part for part in SENTENCE_END.split(line) if part and (NUMBER.search(part) or "\\" in part)]
    sentence = sentences[-1] if sentences else line
    if (relation := inequality_in_words(sentence)) is not None:
        return relation
    sentence = NEGATIVE.sub("-", sentence)
    if (between := _BETWEEN.search(sentence)) is not None:
        return between.group()
    if (bare := bare_latex(sentence)) is not None:
        return bare
    _, equals, arrived = sentence.rpartition("=")
    if equals and (number := NUMBER.match(arrived.lstrip(" $€£*~≈"))) is not None:
        rest = arrived.lstrip(" $€£*~≈")[number.end() :]
        if _FURTHER_VALUE.match(rest) and is_readable(arrived.strip(" .$*")):
            return arrived.strip(" .$*")
        if not re.search(
            r"[;,]\s.*\d|\b(?:so|is|are|has|will|therefore|leaves|leaving|gives|makes)\b.*\d", rest
        ):
            return with_unit(arrived.lstrip(" $€£*~≈"), number)
    if (count := _THERE_ARE.search(sentence)) is not None:
        number = NUMBER.match(sentence, count.end())
        return sentence[count.end() :] if number is None else with_unit(sentence, number)
    numbers = list(NUMBER.finditer(sentence))
    if not numbers:
        return list(NUMBER.finditer(line))[-1].group()
    if _SUBJECT.match(sentence) and _COMPARED.search(sentence[: numbers[-1].start()]):
        return numbers[0].group()  # 38 people saw fewer than 3 whales
    return with_unit(sentence, numbers[-1])


def _ends_in_the_middle(text: str) -> bool:
    """Returns whether a long text was cut off, since it stops inside mathematics or brackets."""
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
