"""Whether the recommended objective wins: gaps of several sizes, every objective trained and sampled on each.

The texts of one data set are a mix. Its problems are those that the embedded model solves alone at least
once in four samples, so that each has a text of the model's own; a share of them gets the expert's
demonstration instead (prose, merged steps), or the own text in other spelling (`43 + 46 is 89`). Only the
texts differ between the data sets: problems, number of rows, epochs and evaluation are the same.

Every training and its outcomes are one line of a JSON lines file; started again, the bench goes on with what
is missing.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from drsft.config import Arm, DataView, Objective, Prompts, Train
from drsft.evaluate.estimators import avg_at_k
from drsft.evaluate.paired import paired_difference
from drsft.gap.scored_texts import COMPARED
from drsft.gap.scoring import score_rows
from drsft.policy.prompts import load_prompter, model_location
from drsft.records import Problem, Source
from drsft.run.layout import TRAINING
from drsft.storage import LocalStore
from drsft.train.encode import encode
from drsft.train.job import Job, Target, Training
from drsft.train.loop import train_one
from drsft.train.model import load_model
from drsft.train.pack import pack
from drsft.train.world import World
from tests.base_model.measure import plain_prompt, sample
from tests.base_model.soundness import boxed_answer
from tests.base_model.task import PLAIN_PROMPT, Split, WordProblem, make_problems

__all__ = ["GAPS", "Gap", "bench_recommendation", "print_recommendation"]

NUM_CANDIDATES = 750  # of which about two in three are solved alone
NUM_TRAINED = 480
NUM_HELD_OUT = 200
NUM_SAMPLES = 4
SEQ_LEN = 256
TRAIN = Train(seq_len=SEQ_LEN, batch_rows=8, micro_batch_rows=4, num_epochs=3, learning_rate=3e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A data set: which share of its texts is `foreign`, the others the model's own."""

    foreign: str  # "expert" or "respelt"
    share: float

    @property
    def name(self) -> str:
        return f"{self.foreign} {self.share:.0%}"


GAPS = (
    *(Gap(foreign="expert", share=share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
    *(Gap(foreign="respelt", share=share) for share in (0.5, 1.0)),
)


def bench_recommendation(
    path: Path,
    objectives: Sequence[Objective] = COMPARED,
    *,
    num_seeds: int,
    budget_s: float,
    learning_rate: float,
) -> Iterator[dict[str, Any]]:
    """Trains what `path` does not hold yet, seed by seed, until `budget_s` have passed; yields its rows."""
    ends_at = time.monotonic() + budget_s
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    yield from done
    keys = {_key(row) for row in done}
    material: Material | None = None
    train = TRAIN.model_copy(update={"learning_rate": learning_rate})
    for seed in range(num_seeds):
        for gap in GAPS:
            for objective in objectives:
                what = {
                    "gap": gap.name,
                    "objective": objective.model_dump(mode="json"),
                    "seed": seed,
                    "learning_rate": learning_rate,
                }
                if _key(what) in keys:
                    continue
                if time.monotonic() > ends_at:
                    return
                material = material or Material(path.with_suffix(".own.json"))
                outcomes_PK = material.train_and_sample(gap, objective, seed, train)
                row = {**what, "mean_phi": material.mean_phi(gap), "outcomes_PK": outcomes_PK}
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                yield row


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["gap"], row["objective"], row["seed"], row["learning_rate"]], sort_keys=True)


class Material:
    """Problems with their own and foreign texts, and the held-out problems; drawn once, seeded."""

    def __init__(self, own_path: Path) -> None:
        self.location = model_location("embedded")
        self.tokenizer = AutoTokenizer.from_pretrained(self.location)
        self.prompter = load_prompter("embedded", Prompts(plain=PLAIN_PROMPT))
        candidates = list(make_problems(Split.TRAIN, NUM_CANDIDATES))
        if not own_path.exists():
            own_path.write_text(json.dumps(self._own_texts(candidates)))
        pairs = zip(candidates, json.loads(own_path.read_text()), strict=True)
        self.rows = [(problem, text) for problem, text in pairs if text is not None][:NUM_TRAINED]
        self.held_out = list(make_problems(Split.HELD_OUT, NUM_HELD_OUT))

    def _own_texts(self, candidates: Sequence[WordProblem]) -> list[str | None]:
        """The first right one of the model's samples for each problem."""
        base = load_model(self.location).eval()
        prompts = [plain_prompt(problem) for problem in candidates]
        drawn = sample(base, self.tokenizer, prompts, num_samples=NUM_SAMPLES, seed=0)
        return [
            next((text for text in texts if boxed_answer(text) == problem.answer), None)
            for problem, texts in zip(candidates, drawn, strict=True)
        ]

    def records(self, gap: Gap) -> pa.Table:
        """As training reads them. Foreign rows are nested: a larger share adds to a smaller one's."""
        order = random.Random(0).sample(range(len(self.rows)), len(self.rows))
        foreign = set(order[: round(gap.share * len(order))])
        texts = [
            _foreign_text(problem, own, gap.foreign) if index in foreign else own
            for index, (problem, own) in enumerate(self.rows)
        ]
        problems = [_problem(problem) for problem, _ in self.rows]
        return pa.table(
            {
                "problem_id": [problem.problem_id for problem in problems],
                "source": [Source.EXPERT.value] * len(problems),
                "prompt_ids": [self.prompter.plain(problem) for problem in problems],
                "expert_completion_ids": [self.prompter.completion(text) for text in texts],
            }
        )

    def mean_phi(self, gap: Gap) -> float:
        """Over the tokens of the data set, under the model before training."""
        rows = self.records(gap).to_pylist()
        base = load_model(self.location).eval()
        scores = score_rows(base, [(row["prompt_ids"], row["expert_completion_ids"]) for row in rows])
        return float(np.concatenate([one.phi_T for one in scores]).mean())

    def train_and_sample(self, gap: Gap, objective: Objective, seed: int, train: Train) -> list[list[int]]:
        """1 for each right sample of each held-out problem."""
        encoding = encode(self.records(gap), data=DataView.EXPERT, seq_len=SEQ_LEN)
        rows = pack(encoding.examples, seq_len=SEQ_LEN)
        job = Job(arm=Arm(name="bench", data="expert", objective=objective), seed=seed)
        with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
            target = Target(location=self.location, compute_dtype=torch.float32)
            training = Training(job=job, settings=train, target=target, rows=rows, world=World())
            train_one(training, store=LocalStore(Path(folder)))
            trained = load_model(str(Path(folder) / TRAINING.export)).eval()
        prompts = [plain_prompt(problem) for problem in self.held_out]
        drawn = sample(trained, self.tokenizer, prompts, num_samples=NUM_SAMPLES, seed=1 + seed)
        return [
            [int(boxed_answer(text) == problem.answer) for text in texts]
            for problem, texts in zip(self.held_out, drawn, strict=True)
        ]


def _problem(problem: WordProblem) -> Problem:
    return Problem(
        problem_id=problem.problem_id,
        question=problem.question,
        demonstration=problem.demonstration,
        reference=problem.answer,
    )


def _foreign_text(problem: WordProblem, own: str, foreign: str) -> str:
    return problem.demonstration if foreign == "expert" else respelt(own)


def respelt(own: str) -> str:
    """`43+46=89;\\boxed{89}` -> `43 + 46 is 89. \\boxed{89}`: the same steps in another spelling."""
    for old, new in (("+", " + "), ("-", " - "), ("*", " times "), ("/", " / "), ("=", " is "), (";", ". ")):
        own = own.replace(old, new)
    return own


def print_recommendation(rows: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """avg@k by gap and objective over the seeds, each against SFT, paired by problem and seed."""
    table = Table("gap", "φ̄", "objective", "seeds", "avg@k", "95 %", "minus sft", "95 %")
    for gap in dict.fromkeys(row["gap"] for row in rows):
        of_gap = [row for row in rows if row["gap"] == gap]
        outcomes = {kind: _outcomes(of_gap, kind) for kind in dict.fromkeys(map(_kind, of_gap))}
        for kind, outcomes_SPK in outcomes.items():
            mean = avg_at_k(outcomes_SPK)
            cells = [f"{mean.value:.1%}", f"{mean.low:.1%} to {mean.high:.1%}", "", ""]
            seeds = min(len(outcomes_SPK), len(outcomes.get("sft", ())))
            if kind != "sft" and seeds:
                pair = paired_difference(outcomes_SPK[:seeds], outcomes["sft"][:seeds])
                cells[2:] = [f"{100 * pair.value:+.1f}", f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"]
            phi = of_gap[0].get("mean_phi")
            table.add_row(gap, "" if phi is None else f"{phi:+.3f}", kind, str(len(outcomes_SPK)), *cells)
    (console or Console()).print(table)


def _kind(row: dict[str, Any]) -> str:
    return str(row["objective"]["kind"])


def _outcomes(rows: Sequence[dict[str, Any]], kind: str) -> NDArray[np.float64]:
    """(S, P, K) in order of the seeds."""
    chosen = sorted((row for row in rows if _kind(row) == kind), key=lambda row: row["seed"])
    return np.array([row["outcomes_PK"] for row in chosen], dtype=np.float64)


def main(
    file: Annotated[Path, typer.Argument(help="JSON lines; trainings that it holds are not done again.")],
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 3,
    budget_s: Annotated[float, typer.Option(help="Start no further training after so many seconds.")] = 3600,
    learning_rate: Annotated[float, typer.Option(min=0)] = 3e-4,
) -> None:
    """Whether the recommended objective wins: gaps of several sizes, each objective trained on each."""
    rows = bench_recommendation(file, num_seeds=seeds, budget_s=budget_s, learning_rate=learning_rate)
    print_recommendation(list(rows))


if __name__ == "__main__":
    typer.run(main)
