"""Wording of the arithmetic stories: one table for each family, and one for the expert's prose.

A story is an opening followed by moves that change one amount. Placeholders: {who} acts, {prev} is whom the
last sentence was about (comparison only), {a} groups of {b}, {n} is a single operand, {p} = a*b, {t} the
amount afterwards.
"""

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["EXPERT", "FAMILIES", "NAMES", "ExpertWording", "Family", "Move"]


class Move(StrEnum):
    GAIN = "gain"  # amount + n
    LOSS = "loss"  # amount - n
    GAIN_GROUPS = "gain_groups"  # amount + a*b
    LOSS_GROUPS = "loss_groups"  # amount - a*b
    TIMES = "times"  # amount * n
    SPLIT = "split"  # amount / n


NAMES = ("Ann", "Bob", "Cara", "Dan", "Eve", "Finn", "Gia", "Hugo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of story. `moves` maps a move to its clauses; TIMES and SPLIT have one table per factor
    instead.
    """

    unit: tuple[str, ...]
    openings: tuple[str, ...]
    group_openings: tuple[str, ...] = ()
    moves: dict[Move, tuple[str, ...]]
    factors: dict[Move, dict[int, str]] = field(default_factory=dict)
    joiner: str
    question: str


FAMILIES: dict[str, Family] = {
    "collection": Family(
        unit=("cards", "coins", "nuts", "cups"),
        openings=("{who} has {a} {unit}", "{who} owns {a} {unit}"),
        group_openings=("{who} has {a} bags of {b} {unit}",),
        moves={
            Move.GAIN: ("finds {n}", "wins {n}", "gets {n} more"),
            Move.LOSS: ("loses {n}", "sells {n}", "gives away {n}"),
            Move.GAIN_GROUPS: ("opens {a} packs of {b}",),
            Move.LOSS_GROUPS: ("gives {a} friends {b} each",),
        },
        factors={
            Move.TIMES: {2: "doubles them", 3: "triples them"},
            Move.SPLIT: {2: "keeps half", 3: "keeps a third"},
        },
        joiner=", ",
        question="How many {unit} are left?",
    ),
    "shopping": Family(
        unit=("coins",),
        openings=("{who} has {a} coins", "{who} brings {a} coins to the shop"),
        moves={
            Move.GAIN: ("{who} earns {n}", "A friend lends {n}"),
            Move.LOSS: ("A book costs {n}", "{who} pays {n} for lunch"),
            Move.GAIN_GROUPS: ("{who} sells {a} cups at {b} each",),
            Move.LOSS_GROUPS: ("{who} buys {a} pens at {b} each", "{a} books cost {b} each"),
        },
        factors={Move.SPLIT: {2: "{who} saves half and keeps the rest"}},
        joiner=". ",
        question="How many coins are left to spend?",
    ),
    "sharing": Family(
        unit=("buns", "pies"),
        openings=("{who} bakes {a} {unit}",),
        group_openings=("{who} bakes {a} trays of {b} {unit}",),
        moves={
            Move.GAIN: ("{n} more are made", "a friend adds {n}"),
            Move.LOSS: ("{n} are eaten", "{n} are burnt"),
            Move.GAIN_GROUPS: ("{a} boxes of {b} arrive",),
            Move.LOSS_GROUPS: ("{a} guests eat {b} each",),
        },
        factors={
            Move.SPLIT: {n: f"they go equally on {n} plates and we take one plate" for n in (2, 3, 4, 5)},
        },
        joiner="; ",
        question="How many {unit} do we have?",
    ),
    "travel": Family(
        unit=("km",),
        openings=("{who} drives {a} km", "{who} rides {a} km"),
        group_openings=("{who} drives {a} hours at {b} km per hour",),
        moves={
            Move.GAIN: ("walks on {n} km", "goes on {n} km"),
            Move.LOSS: ("turns back {n} km", "comes back {n} km"),
            Move.GAIN_GROUPS: ("rides on {a} hours at {b} km per hour",),
            Move.LOSS_GROUPS: ("comes back {a} hours at {b} km per hour",),
        },
        factors={Move.TIMES: {2: "goes on to twice that distance"}},
        joiner=", then ",
        question="How far from home is {who}?",
    ),
    "comparison": Family(
        unit=("points", "books"),
        openings=("{who} has {a} {unit}",),
        group_openings=("{who} has {a} rows of {b} {unit}",),
        moves={
            Move.GAIN: ("{who} has {n} more than {prev}", "{prev} has {n} fewer than {who}"),
            Move.LOSS: ("{who} has {n} fewer than {prev}", "{prev} has {n} more than {who}"),
        },
        factors={
            Move.TIMES: {2: "{who} has twice as many as {prev}", 3: "{who} has 3 times as many as {prev}"},
            Move.SPLIT: {2: "{who} has half as many as {prev}", 3: "{who} has a third as many as {prev}"},
        },
        joiner=". ",
        question="How many {unit} does {who} have?",
    ),
    "garden": Family(
        unit=("plants", "trees"),
        openings=("{a} {unit} stand in a garden",),
        group_openings=("A garden has {a} rows of {b} {unit}",),
        moves={
            Move.GAIN: ("{n} sprout", "{n} are planted"),
            Move.LOSS: ("{n} wilt", "{n} are cut"),
            Move.GAIN_GROUPS: ("{a} rows of {b} are added",),
            Move.LOSS_GROUPS: ("{a} rows of {b} are dug up",),
        },
        factors={
            Move.TIMES: {2: "the number doubles"},
            Move.SPLIT: {2: "half survive", 3: "a third survive"},
        },
        joiner="; ",
        question="How many {unit} grow there?",
    ),
    "bus": Family(
        unit=("people",),
        openings=("A bus carries {a} people", "A train carries {a} people"),
        moves={
            Move.GAIN: ("{n} get on", "{n} board"),
            Move.LOSS: ("{n} get off", "{n} step out"),
            Move.GAIN_GROUPS: ("{a} groups of {b} get on",),
            Move.LOSS_GROUPS: ("{a} groups of {b} get off",),
        },
        factors={Move.SPLIT: {2: "half get off", 3: "only a third stay"}},
        joiner=", ",
        question="How many people ride on?",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertWording:
    """The expert's prose. `merged` replaces two neighbouring gains or losses, the merged_* texts hide the
    product.
    """

    opening: tuple[str, ...]
    group_opening: str
    merged_group_opening: str
    moves: dict[Move, tuple[str, ...]]
    merged: tuple[str, ...]
    merged_groups: dict[Move, str]
    closing: tuple[str, ...]


EXPERT = ExpertWording(
    opening=("We start from {a} {unit}.", "Initially the count is {a} {unit}."),
    group_opening="{a} times {b} is {t}, so we start from {t} {unit}.",
    merged_group_opening="Initially the count is {t} {unit}.",
    moves={
        Move.GAIN: ("Adding {n} gives {t}.", "The count rises by {n} to {t}."),
        Move.LOSS: ("Taking away {n} leaves {t}.", "The count falls by {n} to {t}."),
        Move.GAIN_GROUPS: ("{a} times {b} is {p}, so the count rises to {t}.",),
        Move.LOSS_GROUPS: ("{a} times {b} is {p}, so the count falls to {t}.",),
        Move.TIMES: ("Multiplying by {n} gives {t}.",),
        Move.SPLIT: ("Dividing by {n} leaves {t}.",),
    },
    merged=("After both changes we are at {t}.",),
    merged_groups={
        Move.GAIN_GROUPS: "The new groups take us to {t}.",
        Move.LOSS_GROUPS: "Without those groups {t} remain.",
    },
    closing=("Therefore the answer is \\boxed{{{t}}}.", "Hence we arrive at \\boxed{{{t}}}."),
)
