"""Makes word problems that the model of `make real-model` can partly solve.

    python -m tests.real_model.problems [FOLDER]

One or two steps with numbers below twenty: of published sets that were tried the model solves next to nothing
(SVAMP 4 %, GSM8K 0 %). The solutions are in a textbook's manner, which the model does not write by itself.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "NUM_HELD_OUT", "NUM_TRAIN", "make", "write"]

FOLDER = Path("models/smollm2-135m-problems")
NAMES = ("Tom", "Ann", "Sara", "Ben", "Mia", "Leo", "Nina", "Omar", "Ruth", "Ivan")
THINGS = ("apples", "books", "pens", "coins", "cards", "shells", "stamps", "cookies", "marbles", "eggs")
NUM_TRAIN, NUM_HELD_OUT = 96, 96


@dataclass(frozen=True, slots=True)
class Story:
    """{n} acts, {t} are counted; the numbers are {a}, {b}, {c} and {s}, the sum of the first two."""

    question: str
    calculation: str
    reason: str  # of a textbook, for the calculation


ONE_STEP = (
    Story(
        "{n} has {a} {t}. {n} buys {b} more {t}. How many {t} does {n} have now?",
        "{a} + {b}",
        "what is bought is added",
    ),
    Story(
        "{n} has {s} {t}. {n} gives away {b} of them. How many {t} are left?",
        "{s} - {b}",
        "what is given away is subtracted",
    ),
    Story(
        "There are {a} boxes with {b} {t} in each box. How many {t} are there in all?",
        "{a} * {b}",
        "all groups are equal",
    ),
    Story(
        "A book costs ${a} and a pen costs ${b}. How many dollars do they cost together?",
        "{a} + {b}",
        "both prices are paid",
    ),
)
TWO_STEPS = (
    Story(
        "{n} has {s} {t} and finds {b} more. Then {n} loses {c} of them. How many {t} does {n} have now?",
        "{s} + {b} - {c}",
        "a gain is followed by a loss",
    ),
    Story(
        "{n} has {a} bags of {b} {t} and eats {c} {t}. How many {t} are left?",
        "{a} * {b} - {c}",
        "a part of equal groups is removed",
    ),
)


def make(num_problems: int, *, seed: int) -> Iterator[dict[str, str]]:
    """Yields problems with their solution and answer, no question twice; two of three have one step."""
    draws, seen = random.Random(seed), set[str]()
    while len(seen) < num_problems:
        wordings = TWO_STEPS if len(seen) % 3 == 2 else ONE_STEP
        story = draws.choice(wordings)
        a, b = draws.randint(2, 9), draws.randint(2, 9)
        values = {"n": draws.choice(NAMES), "t": draws.choice(THINGS), "a": a, "b": b, "s": a + b}
        values["c"] = draws.randint(1, b - 1)
        question = story.question.format(**values)
        if question in seen:
            continue
        seen.add(question)
        yield _problem(question, story.calculation.format(**values), story.reason)


def _problem(question: str, calculation: str, reason: str) -> dict[str, str]:
    answer = str(eval(calculation, {"__builtins__": {}}))  # three numbers and two signs, made above
    written = calculation.replace("*", r"\cdot")
    solution = (
        rf"Let $x$ denote the required number. Since {reason}, we obtain $x = {written}$, "
        rf"whence $x = \boxed{{{answer}}}$."
    )
    return {"problem": question, "solution": solution, "answer": answer}


def write(folder: Path) -> None:
    """Writes train.jsonl and held_out.jsonl; no question is in both."""
    problems = list(make(NUM_TRAIN + NUM_HELD_OUT, seed=0))
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", problems[:NUM_TRAIN]), ("held_out", problems[NUM_TRAIN:])):
        lines = "".join(json.dumps(one) + "\n" for one in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
