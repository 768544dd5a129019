"""What the base model is trained on: two phases, four kinds of text, and the batches drawn from them.

Kinds: "plain" solves alone, "guided" solves with a reference solution in view, "prose" is the expert's text,
and "equations" are bare lines of which only the results count. "restyled" is guided without the story and
with nothing merged: left to itself a small model never looks at a reference as long as it can read the
question.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tests.base_model.measure import guided_prompt, plain_prompt
from tests.base_model.task import MERGE_SHARE, Split, WordProblem, make_problems
from tests.base_model.tokenizer import END_OF_TEXT, END_OF_TURN

__all__ = ["PHASES", "Example", "Phase", "Pools", "draw_batch", "make_pools"]

# B = rows of a batch, T = tokens of a row

FAMILY_WEIGHTS = {
    "collection": 1.0, "shopping": 1.0, "sharing": 1.0, "travel": 1.0, "comparison": 1.0,
    "garden": 0.25, "bus": 0.25,  # rare here, as common as the others in the quickstart's problems
}  # fmt: skip
HINT_CUT_SHARE = 0.2
DEMONSTRATION_WEIGHT = 0.3  # of its tokens in the guided prompt: they make the expert's style known


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of training with its mix; weights of kinds and levels need not sum to one."""

    num_steps: int
    decay_steps: int
    """Steps in which the learning rate would fall to zero; the schedules below run along them too."""
    learning_rate: float
    warmup_steps: int
    kinds: Mapping[float, Mapping[str, float]]
    """Weights of the kinds, by the progress up to which they hold."""
    longest: Mapping[float, int]
    """Highest level drawn, by the progress up to which it holds: short chains first."""
    levels: Mapping[int, float]
    plain_levels: Mapping[int, float]

    def rate(self, step: int) -> float:
        return self.learning_rate * min(1.0, step / self.warmup_steps) * max(0.05, 1 - self.progress(step))

    def progress(self, step: int) -> float:
        """`step` counts from 1."""
        return (step - 1) / self.decay_steps


_FIRST_LEVELS = {2: 0.33, 3: 0.33, 4: 0.26, 5: 0.08}

PHASES = (
    # Arithmetic and reading.
    Phase(
        num_steps=2000,
        decay_steps=2200,
        learning_rate=2.5e-3,
        warmup_steps=100,
        kinds={
            0.12: {"plain": 0.4, "guided": 0.15, "equations": 0.45},
            1.0: {"plain": 0.45, "guided": 0.42, "prose": 0.05, "equations": 0.08},
        },
        longest={0.2: 2, 0.4: 3, 1.0: 5},
        levels=_FIRST_LEVELS,
        plain_levels=_FIRST_LEVELS,
    ),
    # Following a reference: long chains mostly occur with one in view, so that it has something to give.
    Phase(
        num_steps=800,
        decay_steps=900,
        learning_rate=1.5e-3,
        warmup_steps=50,
        kinds={
            0.3: {"plain": 0.15, "guided": 0.3, "restyled": 0.5, "prose": 0.05},
            1.0: {"plain": 0.2, "guided": 0.55, "restyled": 0.2, "prose": 0.05},
        },
        longest={1.0: 6},
        levels={2: 0.12, 3: 0.22, 4: 0.26, 5: 0.24, 6: 0.16},
        plain_levels={2: 0.4, 3: 0.36, 4: 0.24},
    ),
)


@dataclass(frozen=True, slots=True)
class Example:
    token_ids: list[int]
    loss_weights: list[float]
    """One for each token; the weight belongs to predicting that token."""


Pools = dict[tuple[str, int], list[Example]]
"""Examples by kind and level, so that a batch needs little padding."""


def texts_of(problem: WordProblem, rng: random.Random) -> dict[str, list[tuple[str, float]]]:
    """The training texts of one problem, by kind, each as pieces with their loss weights."""
    own = (problem.own_solution + END_OF_TURN, 1.0)
    # Now and then the reference lacks its last sentence, so that copying the box does not always work.
    sentences = problem.demonstration.split(". ")
    hint = ". ".join(sentences[:-1]) + "." if rng.random() < HINT_CUT_SHARE else problem.demonstration
    # Pieces end where the pre-tokenizer splits (a newline sticks to the full stop before it, a space to the
    # word after it), so that encoding them one by one gives the ids of the whole text.
    before, after = guided_prompt(problem, "\0").split(" \0\n")
    # Results only: the operands of a bare line of equations cannot be predicted.
    pieces = re.split(r"(?<==)(\d+)", problem.own_solution)
    asked = problem.question.rpartition(". ")[2]
    bare_before = before.replace(problem.question, asked)
    return {
        "plain": [(plain_prompt(problem), 0.0), own],
        "guided": [(before, 0.0), (f" {hint}\n", DEMONSTRATION_WEIGHT), (after, 0.0), own],
        "restyled": [(bare_before, 0.0), (f" {problem.demonstration}\n", 0.0), (after, 0.0), own],
        "prose": [(problem.question + "\n", 0.0), (problem.demonstration + END_OF_TEXT, 1.0)],
        "equations": [(piece, float(i % 2)) for i, piece in enumerate(pieces)],
    }


def make_pools(
    tokenizer: PreTrainedTokenizerBase, levels: Mapping[int, float], *, num_problems: int, seed: int
) -> Pools:
    rng = random.Random(seed)
    pools: Pools = {}
    for is_merged in (True, False):
        problems = make_problems(
            Split.BASE,
            num_problems if is_merged else num_problems // 4,
            seed=seed,
            levels=levels,
            families=FAMILY_WEIGHTS,
            merge_share=MERGE_SHARE if is_merged else 0.0,
        )
        for problem in problems:
            for kind, pieces in texts_of(problem, rng).items():
                if is_merged is (kind != "restyled"):
                    pools.setdefault((kind, problem.level), []).append(_encode(tokenizer, pieces))
    return pools


def _encode(tokenizer: PreTrainedTokenizerBase, pieces: list[tuple[str, float]]) -> Example:
    encoded = tokenizer([text for text, _ in pieces], add_special_tokens=False)["input_ids"]
    weights = [weight for (_, weight), ids in zip(pieces, encoded, strict=True) for _ in ids]
    return Example([i for ids in encoded for i in ids], weights)


def draw_batch(
    pools: Pools, phase: Phase, rng: random.Random, *, progress: float, num_rows: int
) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights (B, T), all rows of one kind and level."""
    kinds = next(kinds for until, kinds in phase.kinds.items() if progress < until)
    longest = next(level for until, level in phase.longest.items() if progress < until)
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    weights_of_levels = phase.plain_levels if kind == "plain" else phase.levels
    levels = [level for level in weights_of_levels if level <= longest]
    level = rng.choices(levels, [weights_of_levels[level] for level in levels])[0]
    examples = rng.choices(pools[kind, level], k=num_rows)
    width = max(len(example.token_ids) for example in examples)
    ids_BT = torch.zeros(num_rows, width, dtype=torch.long)
    weights_BT = torch.zeros(num_rows, width)
    for row, example in enumerate(examples):
        ids_BT[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights_BT[row, : len(example.loss_weights)] = torch.tensor(example.loss_weights)
    return ids_BT, weights_BT
