"""Finds what a text says about the letters of options: which it announces as the answer, and which it calls
right or wrong.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drsft.verify.choice.offered import OR, Letters

__all__ = [
    "announced_letters",
    "is_discussion",
    "is_rejected",
    "left_letters",
    "right_by_option",
    "without_rejected",
]

_STRICT = r"(?:[(\[（]\s*[A-Za-z]\s*[)\]）]|(?-i:[A-Z])(?![A-Za-z0-9_'’(]|\s*[-+*/^=<>]\s*[\w(]))"
_AND = r"[^\S\n]*(?:[,，、和及&]|,?\s*\b(?:and|or|und|oder|et|ou|y|o)\b|/)?[^\S\n]*"
_STATED_LIST = rf"(?P<letters>(?:{_STRICT}(?:{_AND}(?={_STRICT}))?)+)"
_COMPACT = r"(?P<compact>(?-i:[A-Z]{1,8}))(?![A-Za-z0-9_'’(]|\s*[-+*/^=<>]\s*[\w(])"
_FILLER = (
    r"(?:[\s*_:：$\"“'`>]|\\\(|\\text(?:bf)?\{|\\mathrm\{|\\boxed\{"
    r"|options?\b|choices?\b|letter\b|either\b|la\b|(?:a\s+)?letra\b|lettre\b|opci[oó]n\b|alternativa\b|选项|项)*"
)
_VERB = (
    r"(?:is|are|was|would be|must be|should be|:|=|：|应该?[为是]|为|是|选"
    r"|est|es|ist|sea|sind|lautet|é|è|は|은|는|—)"
)
_NOUN = (
    r"\banswers?|\br[ée]ponse|\bantwort|\brespuesta|\bresposta|\brisposta|ответ"
    r"|答案|答え|\brichtig|\bkorrekt|正解|정답|\b답|正确选项|正确的(?:选项|说法|叙述)?(?=是)|\bopci[oó]n|\bop[cç][aã]o"
)
_STATED = re.compile(
    rf"(?:(?:(?P<noun>{_NOUN})|(?<!other )\boptions?|\bchoices?|\bselections?|选项)"
    r"[\s*_)】\]]*(?:(?:\bto\s[^.\n]{0,80}?|\bhere|\btherefore|\bthus|\bcorr?ec?t+[aeo]?\b)\s*)?"
    rf"(?:{_VERB}|[-–—](?=\s)|(?(noun)(?=\s?[(（])|(?!))|(?<=】)|(?<=答案)\s*(?=[A-Z]))"
    r"|\b(?:choose|pick|select|chose|go with|opt for)\b"
    r"|而是|ではなく|\bsondern\b|(?<![不误错未没若可能要候])选(?:择|出)?(?!项|择|出|手|取|用|修)|####)"
    r"(?:\s+not\s+(?:option\s+|choice\s+)?\(?[A-Z]\)?,?\s+but\s+(?:rather\s+)?)?"
    rf"{_FILLER}(?:{_STATED_LIST}|{_COMPACT})",
    re.IGNORECASE,
)
_IS_QUESTION = re.compile(r"[\s)\]*_'\"$.]*[?？]")
_IS_ANSWER = re.compile(
    rf"{_STATED_LIST}\s*(?:[)\]*_'\"$]*\s*)?(?:(?:is|are)\s+(?:therefore\s+|thus\s+|indeed\s+)?"
    r"(?:the\s+)?(?:correct|right|best|true|answer)\b(?!\s+(?:that|to say))|it is\b(?=\W*$)"
    r"|(?:ist|sind)\s+(?:richtig|korrekt)\b"
    r"|选?项?(?:说法)?(?:是?正确|对(?![应于比称照])|符合题意))",
    re.IGNORECASE,
)
_CALLED_WRONG = re.compile(
    r"(?:错误|不正确|不符合题意)的?(?:说法|选项)?是\s*([A-H])|([A-H])选?项?(?:说法)?(?:错误|不正确|不符合题意)"
)
_REJECTS = re.compile(
    r"\s*[)\]*_'\"$]*\s*(?:,[^,.]{1,60},\s*)?(?:(?:is|are|was|were|can|could|must|does|do|cannot|would)?\s*"
    r"(?:be\s+)?(?:clearly\s+|also\s+)?"
    r"(?:not\b|n['’]t\b|incorrect|wrong|false|ruled out|eliminated|excluded|impossible)"
    r"|不(?!是\s*[A-Z])|错|選?选?項?项?错误|被?排除|ではな|じゃな|[이가]?\s?아니)",
    re.IGNORECASE,
)
_REJECTED_BEFORE = re.compile(
    r"(?:(?:\b(?:cannot|not)|n['’]t)\s+be|\b(?:neither|nor|not|rules?\s+out|ruling\s+out|eliminat\w+|excludes?|except|außer|sauf|excepto|salvo)(?:\s+(?:is|are|option|choice))*"
    r"|排除|不选|不是)\s*[(（]?\s*$",
    re.IGNORECASE,
)
# "Answer: A. 1 B. 2 C. 3" repeats the options and chooses none.
_LISTS_OPTIONS = re.compile(r"\s*[.．、:：)][^\n]*?\bB\s*[.．、:：)][^\n]*?\bC\s*[.．、:：)]")
# "Many people pick D", "one might choose A": no choice of the text.
_BY_OTHERS = re.compile(
    r"\b(?:people|students|solvers|guessers|many|some|most|others|they|you|one|who|might|may|could)\s+"
    r"(?:(?!(?:I|we)\b)\w+\s+)?$",
    re.IGNORECASE,
)
_RETRACTS = re.compile(
    r"\bwait\b|\bactually\b|\bcorrection\b|\bmistake\b|\bno,|\bon second thought|更正|不对", re.IGNORECASE
)
_LEFT = re.compile(
    r"(?:\bit'?s|\bis|\bbe|\bhence,?|\btherefore,?|\bthus,?|\bso,?"
    r"|\bes|\best|\bist|\bleaves|\bleaving|\bleft with|=|:)\s*"
    r"(?:only\s+)?(?:option\s+|choice\s+|la\s+opci[oó]n\s+)?\(?((?-i:[A-HJ-Z]))\)?(?=[\s.,;!*]|$)"
    r"(?!\s*[-+*/=^]|\s+[a-z]{2,}\s+[a-z])"
    r"|\bonly\s+(?:option\s+|choice\s+)?\(?((?-i:[A-HJ-Z]))\)?\s+(?:works|holds|fits|remains|satisfies|is|shows|has|matches|gives)\b",
    re.IGNORECASE,
)
_OPTION_LABEL = re.compile(
    r"(?:^|(?<=[。；;\n，,.：:]))\s*(?:选项|(?-i:Option|Choice|Statement)\s+)?[(（]?([A-H])[)）]?(?:选项|项|[、．.:：，])"
)
_STANCE = re.compile(
    r"(?P<wrong>不正确|错误|不符合题意|不对|不成立|错|不当|残缺|杂糅|有误|混乱|对象(?:弄)?错|\b(?:is|are)\s+(?:not\s+(?:correct|true)|incorrect|false|wrong)\b|(?<=[,:–-]\s)(?:wrong|false|incorrect)\b)"
    r"|(?P<right>正确|符合题意|得体|没有语病|\b(?:is|are)\s+(?:correct|true|right)\b|(?<=[,:–-]\s)(?:right|true|correct)\b)"
)


@dataclass(frozen=True, slots=True)
class _Claim:
    position: int
    letters: Letters


def announced_letters(text: str, offered: Letters, *, asks_for_wrong: bool) -> Letters | None:
    """Returns the letters that a text announces as its answer; None if it announces none.

    Announcements are "the answer is (C)" and its Chinese form (故选C), and the last one counts. "C is
    correct" is a weaker claim, since it may discuss one option only. It counts if the text has no
    announcement, or if a word such as "wait" follows the last one. Then the last claim of either kind
    counts, even if that is the announcement itself. `asks_for_wrong` says that the question asks for a wrong
    option. A claim counts only if all its letters are among `offered`, unless `offered` is empty.
    """
    announced, right = (
        [claim for claim in claims if not offered or claim.letters <= offered | {OR}]
        for claims in (
            _announcements(text, asks_for_wrong=asks_for_wrong),
            _called_right(text, asks_for_wrong=asks_for_wrong),
        )
    )
    if announced and not _RETRACTS.search(text, announced[-1].position):
        return announced[-1].letters
    last = max([*announced, *right], key=lambda claim: claim.position, default=None)
    return None if last is None else last.letters


def _announcements(text: str, *, asks_for_wrong: bool) -> Iterator[_Claim]:
    for match in _STATED.finditer(text):
        letters = match["letters"] or match["compact"]
        is_taken_back = not asks_for_wrong and _REJECTS.match(text, match.end())
        is_by_others = match["noun"] is None and _BY_OTHERS.search(text[: match.start()][-40:])
        is_list = letters == "A" and _LISTS_OPTIONS.match(text, match.end())
        is_question = _IS_QUESTION.match(text, match.end())
        if not (is_taken_back or is_by_others or is_list or is_question):
            yield _Claim(match.start(), _letters_in(letters))


def _called_right(text: str, *, asks_for_wrong: bool) -> Iterator[_Claim]:
    """Yields each "C is correct" in order; if a wrong option is asked for, each "C is wrong" instead."""
    if asks_for_wrong:
        yield from (
            _Claim(match.start(), frozenset(match[1] or match[2])) for match in _CALLED_WRONG.finditer(text)
        )
    for match in _IS_ANSWER.finditer(text):
        is_excepted = _REJECTED_BEFORE.search(text[: match.start("letters")][-40:]) is not None
        if not is_excepted and not (asks_for_wrong and match.group().endswith(("true", "正确", "对"))):
            yield _Claim(match.start(), _letters_in(match["letters"]))


def _letters_in(letters: str) -> Letters:
    named = frozenset(re.sub(r"\b(?:and|und|et|y|or|oder|ou|o)\b|[^A-Za-z]", "", letters).upper())
    return named | {OR} if re.search(r"\b(?:or|oder|ou|o)\b", letters) else named


def without_rejected(letters: Letters | None, text: str) -> Letters | None:
    """Returns `letters`, or None if the text rejects one of them anywhere, as in "(B) is wrong"."""
    if letters is None:
        return None
    named = re.finditer(rf"(?<![A-Za-z])[{''.join(letters)}](?![A-Za-z])", text)
    return None if any(is_rejected(text, match.end()) for match in named) else letters


def is_rejected(text: str, position: int) -> bool:
    """Returns whether the words from `position` on, where a letter ends, reject this letter: " is wrong"."""
    return _REJECTS.match(text, position) is not None


def right_by_option(text: str, *, asks_for_wrong: bool) -> Letters | None:
    """Returns the letter of the only option that a text calls right when it discusses options one by one.

    With `asks_for_wrong`, returns the letter of the only option that it calls wrong. Returns None if the text
    does not discuss options one by one, or if no option or several fit.
    """
    labels = list(_OPTION_LABEL.finditer(text))
    if not is_discussion(text):
        return None
    ends = [label.start() for label in labels[1:]] + [len(text)]
    stances: dict[str, bool] = {}
    for label, end in zip(labels, ends, strict=True):
        found = list(_STANCE.finditer(text, label.end(), end))
        if found:
            stances[label[1]] = found[-1]["right"] is not None
    wanted = [letter for letter, is_right in stances.items() if is_right != asks_for_wrong]
    return frozenset(wanted) if len(wanted) == 1 else None


def is_discussion(text: str) -> bool:
    """Returns whether a text discusses options one by one."""
    return len({label[1] for label in _OPTION_LABEL.finditer(text)}) > 1


def left_letters(text: str) -> Letters | None:
    """Returns the last letter that a sentence concludes with ("which leaves C"); None if there is none."""
    left = [
        match.group(match.lastindex or 0)
        for match in _LEFT.finditer(text)
        if not is_rejected(text, match.end())
        and not _REJECTED_BEFORE.search(text[: match.start(match.lastindex or 0)][-40:])
    ]
    return frozenset(left[-1]) if left else None
