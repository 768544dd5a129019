r"""Defines in which order the parts of a text that may be its answer, its statements, are trusted.

1. Thoughts do not count: the answer must be after the last thought's end and before the end of the turn.
2. The last formal statement (`formal`): a closed `\boxed{}` (several are one answer where only commas, "and"
   or `x =` stand between them), `<answer>` tags, a field "answer" of JSON, a mark `#### value`. A later
   announcement overrides it.
3. The last announcement (`announced`: "the answer is", in many languages) that is not rejected ("is not 5")
   and no heading of what follows it.
4. A bare answer (`bare`): a short text of one line that is no sentence.
5. What the last sentence, or the last row of a derivation, arrives at (`concluded`).

Steps 3 to 5 see a text without the values that it rejects (`rejections`).

Every step is linear in the text, and only the tail of a very long text is read.
"""

import re
from collections.abc import Callable, Iterator

from drsft.verify.extraction.announced import announced
from drsft.verify.extraction.bare import bare
from drsft.verify.extraction.concluded import concluded
from drsft.verify.extraction.formal import boxed, formal_statements
from drsft.verify.extraction.rejections import without_rejected_values
from drsft.verify.extraction.statement import TAIL_CHARS, Statement
from drsft.verify.extraction.thoughts import after_thoughts, before_end_of_turn

__all__ = ["find_answer", "find_answers"]

INFORMAL: tuple[Callable[[str], Statement | None], ...] = (announced, bare, concluded)
# The ends of sections, images, and the numbers of steps.
_NO_STATEMENTS = re.compile(
    r"<eo[a-z]>|!\[[^\]\n]{0,200}\]\([^()\n]{0,500}\)"
    r"|^[ \t*#]*(?:[Ss]tep|STEP)[ \t]+\d{1,3}(?:[ \t]*[:.)]|[ \t]*$)",
    re.MULTILINE,
)


def find_answer(text: str, *, is_box_required: bool = False) -> Statement | None:
    """Returns what the text most probably states as its answer; None if it states no answer.

    With `is_box_required`, only a box counts.
    """
    return next(find_answers(text, is_box_required=is_box_required), None)


def find_answers(text: str, *, is_box_required: bool = False) -> Iterator[Statement]:
    """Yields the statements that may be the answer, the most trusted first; only a box if one is required."""
    said = after_thoughts(text[-TAIL_CHARS:])
    if said is None:
        return
    text = before_end_of_turn(_NO_STATEMENTS.sub("\n", said))
    if is_box_required:
        if (box := boxed(text)) is not None and box[1].text:
            yield box[1]
        return
    formal = formal_statements(text)
    if formal:
        later = announced(text[formal[0][0] :], is_second_word=True)
        if later is not None and _is_value(later.text):
            yield later
    for _, statement in formal:
        if not statement.text:
            return  # an empty box: the answer was to stand there
        yield statement
    kept = without_rejected_values(text)
    for search in INFORMAL:
        if (informal := search(kept)) is not None:
            yield informal


def _is_value(answer: str) -> bool:
    return any(character.isdigit() for character in answer) or "\\" in answer or len(answer) < 20
