"""Finds the options that a question offers, and those that a short answer names."""

import re
from functools import lru_cache

from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import same_when_parsed

__all__ = ["FONT", "LIST", "OR", "Letters", "letters_of", "named_in", "options_of"]

Letters = frozenset[str]
OR = "or"  # among letters: "B or D" is another answer than "B and D"

_SEPARATOR = r"\s*(?:,|;|/|&|\+|、|，|和|与|或|\band\b|\bor\b|\bet\b|\bund\b|\by\b)?\s*"
_ONE = r"[(\[（]?\s*[A-Z]\s*[)\]）]?"
LIST = re.compile(rf"\s*(?:{_ONE}{_SEPARATOR})*(?:,?\s*(?:and|or)\s+)?{_ONE}\s*")
_LABELLED = re.compile(r"\s*[(\[（]?\s*([A-Za-z])\s*(?:[)\]）]\s*[.:]?|[.:：、．]|\s+[-–—])\s*(?=\S)")
_OPTION = re.compile(
    r"(?:(?<=^)|(?<=[\s,;'\"\[|]))[(\[（]?([A-Za-z])\s?[)\].:：、．）](?=\s*\S)", re.MULTILINE
)
FONT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
_QUOTED = re.compile(r"[\[(]?\s*['\"]([A-Z])['\"]\s*[\])]?")  # ["A", "C"]
_LETTER_A = re.compile(r"(?<![A-Za-z])A(?![A-Za-z]|\s+(?!(?:is|has|gives|shows)\b)[a-z])|\$a\$")
_REJECTS_NEXT = re.compile(
    r"(?:\b(?:not|cannot|neither|nor|never|except|than|unlike|without)|n['’]t|instead of|不是|并非)"
    r"(?: (?!(?:but|rather|it|is|so|and)\b)[\w']+){0,3}\s*$"
)
_ARRIVES = r"\b(?:is|are|was|were|be|choose|means|leaves) (?:(?:the|a|an|only|therefore|thus) )*"
_PRONOUN = re.compile(r"^(?:it|they|he|she|we)\s(?=\w{3})")


@lru_cache(maxsize=1024)
def options_of(question: str) -> dict[str, str]:
    """Returns the texts of the options that a question lists, by capital letter; {} if it lists none.

    They are the longest run of labels A, B, C and so on.
    """
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
    """Returns the letters of the options that a short answer names by letter, text or value; None if it names
    none.

    If `offered` is empty, every letter counts as an option.
    """
    answer = _QUOTED.sub(r"\1", FONT.sub(r" \1 ", answer)).strip()
    answer = answer.strip("$*_`\"' ").rstrip(".。 ").strip()
    if not answer or len(answer) > 500:
        return None
    wanted = _plain(answer)
    same = [letter for letter, text in offered.items() if _plain(text) == wanted]
    if len(same) == 1:
        return frozenset(same)
    small = re.fullmatch(r"[(\[]?\s*([a-z])\s*[)\]]?", answer)
    if small is not None and (not offered or small[1].upper() in offered):
        return frozenset(small[1].upper())
    if LIST.fullmatch(answer):
        letters = frozenset(re.findall(r"[A-Z]", answer))
        is_run = len(answer) <= 8 and len(letters) == len(answer)
        is_run = is_run and (
            list(answer) == sorted(answer) or (len(answer) < 6 and letters <= offered.keys())
        )
        is_word = answer.isalpha() and not is_run
        if not is_word and (not offered or letters <= offered.keys()):
            return letters | {OR} if re.search(r"\bor\b|或", answer) else letters
    if len({label[1].upper() for label in _OPTION.finditer(answer)}) > 2:
        return None  # the options over again
    labelled = _LABELLED.match(answer)
    if labelled is not None and (not offered or labelled[1].upper() in offered):
        is_bracket = answer[: labelled.end()].rstrip().endswith((")", "]", "）"))
        if labelled[1].isupper() or is_bracket:
            return frozenset(labelled[1].upper())
    return _by_value(answer, offered)


def _by_value(answer: str, offered: dict[str, str]) -> Letters | None:
    if len(answer) > 200 or not offered:
        return None
    same = [letter for letter, text in offered.items() if same_when_parsed(text, answer)]
    return frozenset(same) if len(same) == 1 else None


def named_in(sentence: str, offered: dict[str, str]) -> Letters | None:
    """Returns the letter of the only option whose text a sentence contains, or with which it ends, or None.

    If one option's text contains another's, the longer one counts.
    """
    plain = f" {_plain(sentence)} "
    options = [(letter, _PRONOUN.sub("", _plain(text))) for letter, text in offered.items()]
    named = []
    for letter, option in sorted(options, key=lambda pair: -len(pair[1])):
        is_article = option == "a" and not _LETTER_A.search(sentence)  # of the option "A. A"
        if option and not is_article and _is_named(option, plain):
            named.append((letter, option))
            plain = plain.replace(option, " ")  # "No change" names no "change"
    if len(named) > 1:  # "Sydney is larger, but the capital is Canberra"
        said = " ".join(_plain(sentence).split())
        named = [pair for pair in named if re.search(rf"{_ARRIVES}{re.escape(pair[1])}$", said)]
    return frozenset(named[0][0]) if len(named) == 1 else None


def _is_named(option: str, sentence: str) -> bool:
    """Returns whether an option occurs in a sentence where the words before it do not reject it."""
    found = re.finditer(rf"(?<![\w.]){re.escape(option)}(?![\w.]\w)(?!\w)", sentence)
    return any(not _REJECTS_NEXT.search(sentence[: match.start()]) for match in found)


def _plain(text: str) -> str:
    return re.sub(r"[\s$.,;]+", " ", FONT.sub(r"\1", clean(text))).strip().lower()
