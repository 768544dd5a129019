"""Reading a solution of the embedded task: its boxed answer, and whether its equations really lead there."""

import re

__all__ = ["boxed_answer", "is_sound"]

_WORD_FACTORS = {"double": 2, "twice": 2, "half": 2, "triple": 3, "third": 3}


def boxed_answer(text: str) -> str | None:
    """The number in the last \\boxed{}, or None."""
    found = re.findall(r"\\boxed\{(\d+)\}", text)
    return found[-1] if found else None


def is_sound(solution: str, question: str) -> bool:
    """Whether an own-style solution really derives its boxed answer.

    Every equation holds, each operand stands in the question or is an earlier result, every result but the
    last is used further on, and the box holds the last result. A right box after a line of wrong or invented
    equations is what this tells from a solved problem.
    """
    body, box, tail = solution.strip().rpartition("\\boxed{")
    steps = body.rstrip(";").split(";")
    known = {int(number) for number in re.findall(r"\d+", question)}
    known |= {factor for word, factor in _WORD_FACTORS.items() if word in question}
    unused: set[int] = set()
    result = None
    for step in steps:
        match = re.fullmatch(r"(\d{1,4})([-+*/])(\d{1,4})=(\d{1,5})", step)
        if match is None:
            return False
        left, right, result = int(match[1]), int(match[3]), int(match[4])
        if not {left, right} <= known or not _holds(left, match[2], right, result):
            return False
        unused = unused - {left, right} | {result}
        known.add(result)
    return bool(box) and unused == {result} and tail == f"{result}}}"


def _holds(left: int, sign: str, right: int, result: int) -> bool:
    match sign:
        case "+":
            return left + right == result
        case "-":
            return left - right == result
        case "*":
            return left * right == result
        case _:
            return right != 0 and left == right * result
