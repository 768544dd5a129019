"""Multiple choice: the letters that a solution settles on, told by letter or by an option's text or value.

Letters go from A to Z; one or several may be asked for. What a sentence rejects ("Choice (A) is incorrect")
is not chosen, an article is no letter, and "B or D" is both, which is neither.
"""

import re
from functools import lru_cache

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.extraction.order import find_answers
from drsft.verify.extraction.sentences import last_sentence
from drsft.verify.extraction.statement import FORMAL, Place
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import same_when_read
from drsft.verify.options import VerifyOptions

__all__ = ["chosen_letters", "judge_choice", "letters_of", "options_of"]

Letters = frozenset[str]

_SEPARATOR = r"\s*(?:,|;|/|&|\+|、|，|和|与|或|\band\b|\bor\b|\bet\b|\bund\b|\by\b)?\s*"
_ONE = r"[(\[（]?\s*[A-Z]\s*[)\]）]?"
_LIST = re.compile(rf"\s*(?:{_ONE}{_SEPARATOR})*(?:,?\s*(?:and|or)\s+)?{_ONE}\s*")
_STRICT = r"(?:[(\[（]\s*[A-Za-z]\s*[)\]）]|(?-i:[A-Z])(?![A-Za-z0-9_'’(]|\s*[-+*/^=<>]\s*[\w(]))"
_STATED_LIST = (
    rf"(?P<letters>(?:{_STRICT}(?:\s*(?:,|、|和|&|,?\s*\band\b|,?\s*\bor\b|/)?\s*(?={_STRICT}))?)+)"
)
_COMPACT = r"(?P<compact>(?-i:[A-Z]{1,8}))(?![A-Za-z0-9_'’(]|\s*[-+*/^=<>]\s*[\w(])"
_FILLER = (
    r"(?:[\s*_:：$\"“'`>]|\\\(|\\text(?:bf)?\{|\\mathrm\{|\\boxed\{"
    r"|options?\b|choices?\b|letter\b|either\b|选项|项)*"
)
_VERB = r"(?:is|are|was|would be|must be|should be|:|=|：|为|是|选|est|es|ist|lautet|は)"
_STATED = re.compile(
    r"(?:(?:(?P<noun>\banswers?|\bréponse|\bantwort|\brespuesta|答案|答え)|\boptions?|\bchoices?|\bselections?|选项)"
    r"[\s*_)】\]]*(?:(?:\bto\s[^.\n]{0,80}?|\bhere|\btherefore|\bthus)\s*)?"
    rf"(?:{_VERB}|[-–—](?=\s)|(?(noun)(?=\s?[(（])|(?!))|(?<=】))"
    r"|\b(?:choose|pick|select|chose|go with|opt for)\b"
    r"|故选|应选|选择|因此选|所以选|(?<![\w选])选(?!项)|####)"
    rf"{_FILLER}(?:{_STATED_LIST}|{_COMPACT})",
    re.IGNORECASE,
)
_IS_ANSWER = re.compile(
    rf"(?P<letters>{_STRICT})\s*(?:[)\]*_'\"]*\s*)?(?:(?:is|are)\s+(?:therefore\s+|thus\s+|indeed\s+)?"
    r"(?:the\s+)?(?:correct|right|best|true|answer)\b(?!\s+(?:that|to say))|正确|项正确|符合题意)",
    re.IGNORECASE,
)
_REJECTS = re.compile(
    r"\s*[)\]*_'\"]*\s*(?:,[^,.]{1,60},\s*)?(?:(?:is|are|was|were|can|could|must|does|do|cannot|would)?\s*"
    r"(?:be\s+)?(?:clearly\s+|also\s+)?"
    r"(?:not\b|n['’]t\b|incorrect|wrong|false|ruled out|eliminated|excluded|impossible)"
    r"|不|错|項?错误|被?排除)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"[\s*_(（\[]*([A-Z])[)）\]*_]*(?:[.:。、．,)]|\s*[-–—]\s|不|\s*$|\s*\n)")
_LINE_LABEL = re.compile(r"^\s*([A-Z])[.、．)]", re.MULTILINE)
_SMALL = re.compile(
    r"(?:answer|option|choice|ans)\W{0,4}(?:is\W*)?(?:option\W*)?([a-z])\W*$|[\s=.]([a-z])\s?\)\s*$",
    re.IGNORECASE,
)
_LAST_IN_PROSE = re.compile(
    r"(?:\bit'?s|\bis|\bhence|\btherefore|\bthus|=|:)\s*\(?([A-HJ-Z])\)?(?=[\s.,;!*]|$)(?!\s*[-+*/=^]|\s+[a-z]{2,}\s+[a-z])"
)
_LABELLED = re.compile(r"\s*[(\[（]?\s*([A-Za-z])\s*(?:[)\]）]\s*[.:]?|[.:：、．]|\s+[-–—])\s*(?=\S)")
_OPTION = re.compile(
    r"(?:(?<=^)|(?<=[\s,;'\"\[|]))[(\[（]?([A-Za-z])\s?[)\].:：、．）](?=\s*\S)", re.MULTILINE
)
_FONT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
_FONT_LETTER = re.compile(
    r"\$?\\(?:text|textbf|mathrm|mathbf|textit)\s*\{\s*\(?([A-Z])\)?\s*\}\s*\$?(?!\s*[-+*/^=_({\\])"
)
_SECTION_END = re.compile(r"<eo[a-z]>")
_ASKS_FOR_WRONG = re.compile(r"\b(?:incorrect|not\b|false|wrong|except)|错误|不正确|不符合", re.IGNORECASE)


def judge_choice(case: Case, options: VerifyOptions) -> Verdict:
    """The reference is letters, or an option's text; so is the answer."""
    offered = options_of(case.question)
    expected = letters_of(case.reference, offered) or letters_of(case.reference, {})
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="reference is no option")
    letters = chosen_letters(case.text, offered, asks_for_wrong=bool(_ASKS_FOR_WRONG.search(case.question)))
    if letters is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no option chosen")
    outcome = Outcome.CORRECT if letters == expected else Outcome.WRONG
    return Verdict(outcome=outcome, reason="choice", answer=", ".join(sorted(letters)))


@lru_cache(maxsize=1024)
def options_of(question: str) -> dict[str, str]:
    """The options that a question lists, by capital letter: the longest run A, B, C, ... of labels."""
    best: dict[str, str] = {}
    for is_capital in (True, False):
        labels = [match for match in _OPTION.finditer(question) if match[1].isupper() == is_capital]
        for first, label in enumerate(labels):
            if label[1].upper() != "A":
                continue
            run = [label]
            for following in labels[first + 1 :]:
                if ord(following[1]) == ord(run[-1][1]) + 1:
                    run.append(following)
            if len(run) >= max(2, len(best)):
                ends = [following.start() for following in run[1:]] + [len(question)]
                texts = [question[match.end() : end] for match, end in zip(run, ends, strict=True)]
                best = {
                    match[1].upper(): text.strip(" \n\t,;'\"]|")
                    for match, text in zip(run, texts, strict=True)
                }
                last = run[-1][1].upper()
                best[last] = best[last].split("\n")[0].strip()
    return best


def letters_of(answer: str, offered: dict[str, str]) -> Letters | None:
    """The letters that a short answer names, by letter, by an option's text or by its value."""
    answer = _FONT.sub(r" \1 ", answer).strip().strip("$*_`\"' ").rstrip(".。 ").strip()
    if not answer or len(answer) > 500:
        return None
    wanted = _plain(answer)
    same = [letter for letter, text in offered.items() if _plain(text) == wanted]
    if len(same) == 1:
        return frozenset(same)
    if re.fullmatch(r"[(\[]?\s*[a-z]\s*[)\]]?", answer):
        return frozenset(answer.upper().strip("()[] "))
    if _LIST.fullmatch(answer):
        letters = frozenset(re.findall(r"[A-Z]", answer))
        is_run = len(answer) <= 8 and len(letters) == len(answer)
        is_run = is_run and (_is_sorted(answer) or (len(answer) < 6 and letters <= offered.keys()))
        is_word = answer.isalpha() and not is_run
        if not is_word and (not offered or letters <= offered.keys()):
            return letters
    labelled = _LABELLED.match(answer)
    if labelled is not None and (not offered or labelled[1].upper() in offered):
        is_bracket = answer[: labelled.end()].rstrip().endswith((")", "]", "）"))
        if labelled[1].isupper() or is_bracket:
            return frozenset(labelled[1].upper())
    return _by_value(answer, offered)


def _is_sorted(letters: str) -> bool:
    return list(letters) == sorted(letters)


def _by_value(answer: str, offered: dict[str, str]) -> Letters | None:
    if len(answer) > 200 or not offered:
        return None
    same = [letter for letter, text in offered.items() if same_when_read(text, answer)]
    return frozenset(same) if len(same) == 1 else None


def chosen_letters(text: str, offered: dict[str, str], *, asks_for_wrong: bool = False) -> Letters | None:
    """What is settled on: a formal statement's letters first, then "the answer is (C)", then what is left."""
    text = _FONT_LETTER.sub(r"(\1)", _SECTION_END.sub("\n", text))
    for found in find_answers(text):
        if found.place not in FORMAL:
            break
        letters = letters_of(found.text, offered)
        if letters is not None and not (found.place is Place.BOX and _stated(text, asks_for_wrong)):
            return letters
    if (letters := _stated(text, asks_for_wrong)) is not None:
        return letters
    bare = text.strip()
    if _LIST.fullmatch(bare.rstrip(".。")) and (letters := letters_of(bare, offered)) is not None:
        return letters
    leading = _LEADING.match(bare)
    if (
        leading is not None
        and (not offered or leading[1] in offered)
        and not _REJECTS.match(bare, leading.end(1))
    ):
        return frozenset(leading[1])
    if (small := _SMALL.search(text.rstrip())) is not None:
        return frozenset((small[1] or small[2]).upper())
    return _by_text(text, offered) or _last_in_prose(text)


def _stated(text: str, asks_for_wrong: bool) -> Letters | None:
    """The last "the answer is (C)" or "C is correct" that is not taken back."""
    found: list[tuple[int, str]] = []
    for match in (*_STATED.finditer(text), *_IS_ANSWER.finditer(text)):
        letters = match.groupdict().get("letters") or match.groupdict().get("compact") or ""
        if not asks_for_wrong and match.re is _STATED and _REJECTS.match(text, match.end()):
            continue
        found.append((match.start(), letters))
    if not found:
        return None
    formal = [entry for entry in found if entry[1]]
    letters = max(formal)[1]
    return frozenset(re.sub(r"\b(?:and|or)\b|[^A-Za-z]", "", letters).upper())


def _by_text(text: str, offered: dict[str, str]) -> Letters | None:
    """The option whose text or value is the answer, or the only one that the last sentence names."""
    if not offered:
        return None
    for found in find_answers(text):
        if (letters := letters_of(found.text, offered)) is not None:
            return letters
        if found.place is Place.PHRASE and (letters := _named_in(found.text, offered)) is not None:
            return letters
    return _named_in(last_sentence(text), offered)


def _named_in(sentence: str, offered: dict[str, str]) -> Letters | None:
    plain = f" {_plain(sentence)} "
    named = [
        (letter, option)
        for letter, text in offered.items()
        for option in [_plain(text)]
        if option and re.search(rf"(?<![\w.]){re.escape(option)}(?![\w.]\w)(?!\w)", plain)
    ]
    # "No change in price" holds "change": the longest text counts.
    longest = [
        letter
        for letter, option in named
        if not any(option != other and option in other for _, other in named)
    ]
    return frozenset(longest) if len(longest) == 1 else None


def _last_in_prose(text: str) -> Letters | None:
    prose = [match for match in _LAST_IN_PROSE.finditer(text) if not _REJECTS.match(text, match.end())]
    return frozenset(prose[-1][1]) if prose else None


def _plain(text: str) -> str:
    return re.sub(r"[\s$.,;]+", " ", _FONT.sub(r"\1", clean(text))).strip().lower()
