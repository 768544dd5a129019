"""Seeded arithmetic word problems with two kinds of solution each, and the shipped problem files.

Each problem is one amount changed in several steps. Its demonstration is the expert's: prose, other words,
neighbouring steps merged. Its own-style solution is a line of terse equations; it is used only to make the
base model, and no shipped problem file holds it. The split of a problem follows from a hash of its question,
so splits cannot overlap whatever the seed and the counts are.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

import drsft.embedded
from tests.base_model.families import EXPERT, FAMILIES, NAMES, Family, Move

__all__ = [
    "DATA_DIR",
    "DATA_LEVELS",
    "GUIDED_PROMPT",
    "MERGE_SHARE",
    "MODEL_DIR",
    "PLAIN_PROMPT",
    "SHIPPED_COUNTS",
    "Split",
    "WordProblem",
    "make_problems",
    "shipped_bytes",
]

PLAIN_PROMPT = "{question}"
GUIDED_PROMPT = "{question}\nReference solution: {demonstration}\nSolve it in your own words."

FOLDER = Path(drsft.embedded.__path__[0])
DATA_DIR, MODEL_DIR = FOLDER / "data", FOLDER / "model"
DATA_SEED = 1
LARGEST_AMOUNT = 99  # two digits keep the arithmetic learnable within minutes on one CPU thread

DATA_LEVELS: Mapping[int, float] = {2: 0.10, 3: 0.25, 4: 0.35, 5: 0.22, 6: 0.08}
"""Shares of the levels in train, held_out and probe: the levels that the base hardly saw supply the expert
fallback.
"""


MERGE_SHARE = 0.5  # of the steps that the expert could merge


class Split(StrEnum):
    BASE = "base"  # trains the base model
    PROBE = "probe"  # chooses its checkpoint
    TRAIN = "train"  # the problems of the quickstart run
    HELD_OUT = "held_out"  # its evaluation


SHIPPED_COUNTS: Mapping[Split, int] = {Split.TRAIN: 600, Split.HELD_OUT: 300}
Groups = tuple[int, int]  # number of groups, size of a group
_SPLIT_BY_BUCKET = (Split.BASE,) * 7 + (Split.PROBE, Split.TRAIN, Split.HELD_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordProblem:
    question: str
    demonstration: str
    """The expert's solution; ends in \\boxed{answer} and a full stop."""
    own_solution: str
    """Terse equations, e.g. `43+46=89;89-7=82;\\boxed{82}`."""
    answer: str
    level: int
    """Number of equations in the own-style solution."""
    family: str

    @property
    def problem_id(self) -> str:
        return blake2b(self.question.encode(), digest_size=8).hexdigest()

    @property
    def split(self) -> Split:
        digest = blake2b(self.question.encode(), digest_size=8, person=b"split").digest()
        return _SPLIT_BY_BUCKET[int.from_bytes(digest, "big") % len(_SPLIT_BY_BUCKET)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One move and its numbers: `num_groups` x `operand` for the group moves, `operand` alone otherwise."""

    move: Move
    operand: int
    num_groups: int = 1
    before: int
    after: int

    @property
    def is_grouped(self) -> bool:
        return self.move in (Move.GAIN_GROUPS, Move.LOSS_GROUPS)

    @property
    def num_equations(self) -> int:
        return 2 if self.is_grouped else 1

    @property
    def numbers(self) -> dict[str, int]:
        product = self.num_groups * self.operand
        return {"a": self.num_groups, "b": self.operand, "n": self.operand, "p": product, "t": self.after}


def draw_change(rng: random.Random, family: Family, before: int) -> Change | None:
    """A random move from `before` that keeps the amount in 1..LARGEST_AMOUNT, or None where the draw does not
    fit.
    """
    move = rng.choices(list(Move), weights=(30, 30, 10, 10, 10, 10))[0]
    if move in (Move.TIMES, Move.SPLIT):
        fitting = [n for n in family.factors.get(move, {}) if move is Move.TIMES or before % n == 0]
        if not fitting:
            return None
        operand, num_groups = rng.choice(fitting), 1
        after = before * operand if move is Move.TIMES else before // operand
    elif not family.moves.get(move):
        return None
    else:
        is_grouped = move in (Move.GAIN_GROUPS, Move.LOSS_GROUPS)
        num_groups = rng.randint(2, 5) if is_grouped else 1
        operand = rng.randint(11, 29) if not is_grouped and rng.random() < 0.3 else rng.randint(2, 9)
        sign = 1 if move in (Move.GAIN, Move.GAIN_GROUPS) else -1
        after = before + sign * num_groups * operand
    if not 1 <= after <= LARGEST_AMOUNT:
        return None
    return Change(move=move, operand=operand, num_groups=num_groups, before=before, after=after)


def draw_changes(rng: random.Random, family: Family, start: int, num_equations: int) -> list[Change]:
    """Changes that make up exactly `num_equations` equations, each from the amount that the last one left."""
    changes: list[Change] = []
    left, amount = num_equations, start
    while left:
        change = draw_change(rng, family, amount)
        if change is not None and change.num_equations <= left:
            changes.append(change)
            left, amount = left - change.num_equations, change.after
    return changes


def own_solution(opening: Groups | None, changes: list[Change]) -> str:
    equations = [] if opening is None else [f"{opening[0]}*{opening[1]}={opening[0] * opening[1]}"]
    for change in changes:
        operand = change.operand
        if change.is_grouped:
            operand = change.numbers["p"]
            equations.append(f"{change.num_groups}*{change.operand}={operand}")
        sign = {Move.TIMES: "*", Move.SPLIT: "/"}.get(
            change.move, "+" if change.after > change.before else "-"
        )
        equations.append(f"{change.before}{sign}{operand}={change.after}")
    return ";".join(equations) + f";\\boxed{{{changes[-1].after}}}"


def demonstration(
    rng: random.Random,
    opening: Groups | None,
    start: int,
    unit: str,
    changes: list[Change],
    merge_share: float,
) -> str:
    """The expert's prose: `merge_share` of the products and of the neighbouring gains and losses are merged
    away.
    """
    numbers = {"t": start, "unit": unit}
    if opening is None:
        sentences = [rng.choice(EXPERT.opening).format(a=start, unit=unit)]
    else:
        text = EXPERT.merged_group_opening if rng.random() < merge_share else EXPERT.group_opening
        sentences = [text.format(a=opening[0], b=opening[1], **numbers)]
    simple = (Move.GAIN, Move.LOSS)
    pending = list(changes)
    while pending:
        change = pending.pop(0)
        texts = EXPERT.moves[change.move]
        if change.is_grouped and rng.random() < merge_share:
            texts = (EXPERT.merged_groups[change.move],)
        elif change.move in simple and pending and pending[0].move in simple and rng.random() < merge_share:
            change, texts = pending.pop(0), EXPERT.merged
        sentences.append(rng.choice(texts).format(**change.numbers))
    sentences.append(rng.choice(EXPERT.closing).format(t=changes[-1].after))
    return " ".join(sentences)


def question(
    rng: random.Random, family: Family, opening: Groups | None, start: int, changes: list[Change], unit: str
) -> str:
    names = rng.sample(NAMES, len(NAMES))
    if opening is None:
        clauses = [rng.choice(family.openings).format(who=names[0], a=start, unit=unit)]
    else:
        clauses = [
            rng.choice(family.group_openings).format(who=names[0], a=opening[0], b=opening[1], unit=unit)
        ]
    # Only the wording of comparisons has a {prev}; there every sentence is about the next person.
    moves_on = any("{prev}" in text for texts in family.moves.values() for text in texts)
    position = 0
    for change in changes:
        previous, position = position, position + 1 if moves_on else position
        texts = family.moves.get(change.move) or (family.factors[change.move][change.operand],)
        who, prev = names[position], names[previous]
        clauses.append(rng.choice(texts).format(who=who, prev=prev, unit=unit, **change.numbers))
    asked = family.question.format(who=names[position], unit=unit)
    return family.joiner.join(clauses) + ". " + asked


def draw_problem(rng: random.Random, family_name: str, level: int, merge_share: float) -> WordProblem:
    family = FAMILIES[family_name]
    unit = rng.choice(family.unit)
    opening = None
    start = rng.randint(5, 60)
    if family.group_openings and rng.random() < 0.3:
        opening = (rng.randint(2, 6), rng.randint(2, 9))
        start = opening[0] * opening[1]
    changes = draw_changes(rng, family, start, level - (opening is not None))
    return WordProblem(
        question=question(rng, family, opening, start, changes, unit),
        demonstration=demonstration(rng, opening, start, unit, changes, merge_share),
        own_solution=own_solution(opening, changes),
        answer=str(changes[-1].after),
        level=level,
        family=family_name,
    )


def make_problems(
    split: Split,
    num_problems: int,
    *,
    seed: int = DATA_SEED,
    levels: Mapping[int, float] = DATA_LEVELS,
    families: Mapping[str, float] | None = None,
    merge_share: float = MERGE_SHARE,
) -> Iterator[WordProblem]:
    """`num_problems` different problems of `split`; `levels` and `families` (default: all alike) map to
    weights.
    """
    families = families or dict.fromkeys(FAMILIES, 1.0)
    rng = random.Random(f"{seed}/{split}")
    seen: set[str] = set()
    while len(seen) < num_problems:
        level = rng.choices(list(levels), list(levels.values()))[0]
        family = rng.choices(list(families), list(families.values()))[0]
        problem = draw_problem(rng, family, level, merge_share)
        if problem.split is split and problem.question not in seen:
            seen.add(problem.question)
            yield problem


def shipped_bytes(problems: Iterable[WordProblem]) -> bytes:
    """Gzipped JSON lines; the same problems give the same bytes, as the header holds no time and no name."""
    rows = (
        {
            "id": problem.problem_id,
            "problem": problem.question,
            "solution": problem.demonstration,
            "answer": problem.answer,
            "level": problem.level,
            "family": problem.family,
        }
        for problem in problems
    )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the shipped problem files again.")
    parser.add_argument(
        "--out", type=Path, default=DATA_DIR, help="folder for train.jsonl.gz and held_out.jsonl.gz"
    )
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for split, num_problems in SHIPPED_COUNTS.items():
        path = out / f"{split}.jsonl.gz"
        path.write_bytes(shipped_bytes(make_problems(split, num_problems)))
        print(f"{path}: {num_problems} problems")


if __name__ == "__main__":
    main()
