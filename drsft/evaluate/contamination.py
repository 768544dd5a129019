"""Measures how the run's training problems overlap with each benchmark, shown beside its score.

The rule is that of drsft/intake/clean/contamination.py. The overlap is measured whether or not the run sets
such problems aside, for each benchmark by itself. Counts of questions are a lower bound: if two questions
share a run of words, only the first one counts.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from drsft.config import Benchmark
from drsft.intake.clean.contamination import ContaminationScreen
from drsft.records import Problem
from drsft.run import layout
from drsft.run.plan import Plan, read_problems
from drsft.run.run import Run
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["Contamination", "measure_contamination", "read_contamination"]

NUM_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """The overlap of the training problems with one benchmark."""

    num_training_problems: int
    num_overlapping: int  # training problems
    question_ids: tuple[str, ...]  # of the benchmark's questions that they overlap with
    examples: tuple[str, ...]  # "<training problem> and <question>: the words they share"


def measure_contamination(run: Run, problems: Store, plan: Plan) -> None:
    """Measures and stores the overlap with each benchmark that has a plan and is not measured yet.

    `problems` is the folder with the training problems of `plan`. Later rounds have the first round's
    problems.
    """
    evaluate, store = run.config.evaluate, run.store
    for benchmark in evaluate.benchmarks:
        key = layout.contamination(evaluate, benchmark)
        of_benchmark = run.benchmark_plan(benchmark)
        if of_benchmark is not None and not store.exists(key):
            questions = read_problems(store, layout.benchmark(benchmark), of_benchmark)
            screen = ContaminationScreen({benchmark.name: questions}, evaluate.contamination)
            found = _overlap(screen, read_problems(problems, layout.PROBLEMS, plan), plan.num_problems)
            store.put(key, json.dumps(asdict(found), indent=1).encode())


def read_contamination(run: Run, benchmark: Benchmark) -> Contamination | None:
    key = layout.contamination(run.config.evaluate, benchmark)
    if not run.store.exists(key):
        return None
    return read_stored(run.store, key, Contamination)


def _overlap(screen: ContaminationScreen, problems: Iterator[Problem], num_problems: int) -> Contamination:
    question_ids: set[str] = set()
    examples: list[str] = []
    num_overlapping = 0
    for problem in problems:
        matches = list(screen.matches(problem))
        if not matches:
            continue
        num_overlapping += 1
        question_ids.update(match.problem_id for match in matches)
        if len(examples) < NUM_EXAMPLES:
            shared = " ".join(matches[0].words)[:200]
            examples.append(f'{problem.problem_id} and {matches[0].problem_id}: "{shared}"')
    return Contamination(
        num_training_problems=num_problems,
        num_overlapping=num_overlapping,
        question_ids=tuple(sorted(question_ids)),
        examples=tuple(examples),
    )
