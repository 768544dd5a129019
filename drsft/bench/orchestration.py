"""What the cascade costs without a model: a FakePolicy, real verdicts on short answers, real shard commits.

One process and one event loop, as in one rewriting actor, without Ray. Each problem draws four samples alone
and, where none is right (three in five), four more with its guide.
"""

import asyncio
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from drsft.config import Prompts, Rewrite
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import load_prompter
from drsft.records import Completion, Problem, problem_id_of
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.shards import ShardSet
from drsft.storage import LocalStore
from drsft.tables import records_to_table
from drsft.verify.pool import VerifierPool

__all__ = ["OrchestrationBench", "bench_orchestration", "print_bench"]

SHARD_SIZE = 512
RIGHT_SHARE = 0.12  # of samples: 1 - 0.88^4 is two in five problems solved alone


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationBench:
    num_problems: int
    seconds: float
    num_samples: int
    peak_rss_mib: float  # of this process

    @property
    def problems_per_s(self) -> float:
        return self.num_problems / self.seconds


def bench_orchestration(num_problems: int) -> OrchestrationBench:
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        return asyncio.run(_measure(num_problems, ShardSet(LocalStore(Path(folder)), "rewrite")))


def print_bench(bench: OrchestrationBench, console: Console | None = None) -> None:
    table = Table("problems", "problems/s", "samples/s", "µs a problem", "peak RSS, MiB")
    table.add_row(
        f"{bench.num_problems:,}",
        f"{bench.problems_per_s:,.0f}",
        f"{bench.num_samples / bench.seconds:,.0f}",
        f"{1e6 / bench.problems_per_s:,.0f}",
        f"{bench.peak_rss_mib:,.0f}",
    )
    (console or Console()).print(table)


async def _measure(num_problems: int, shards: ShardSet) -> OrchestrationBench:
    stage = {"num_samples": 4, "wave_size": 4, "max_tokens": 64}
    recipe = Recipe(
        rewrite=Rewrite.model_validate({"self_align": stage, "guided": stage}),
        prompter=load_prompter("embedded", Prompts(plain="{question}", guided="{question}\n{demonstration}")),
        run_seed=0,
        max_model_len=512,
    )
    policy = FakePolicy(_answer)
    num_samples = 0
    async with VerifierPool() as verifier:
        started_s = time.perf_counter()
        for number, problems in enumerate(_shards(num_problems)):
            records = await asyncio.gather(
                *(rewrite_one(problem, policy, verifier, recipe) for problem in problems)
            )
            num_samples += sum(len(record.attempts) for record in records)
            shards.commit(f"{number:06d}", records_to_table(records))
        seconds = time.perf_counter() - started_s
    return OrchestrationBench(
        num_problems=num_problems,
        seconds=seconds,
        num_samples=num_samples,
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _answer(prompt_ids: Sequence[int], seed: int) -> Completion:
    """Right with RIGHT_SHARE: every problem's reference is 82."""
    draw = random.Random(seed)
    total = 82 if draw.random() < RIGHT_SHARE else draw.randrange(83, 1000)
    return text_completion(f"43+46=89;89-7={total};\\boxed{{{total}}}")


def _shards(num_problems: int) -> Iterator[list[Problem]]:
    for start in range(0, num_problems, SHARD_SIZE):
        yield [_problem(number) for number in range(start, min(start + SHARD_SIZE, num_problems))]


def _problem(number: int) -> Problem:
    question = f"Ann has 43 cups, gets 46, gives 7. How many? ({number})"
    return Problem(
        problem_id=problem_id_of(question, "82"),
        question=question,
        demonstration="Adding 46 gives 89. Taking 7 away leaves 82. Therefore the result is \\boxed{82}.",
        reference="82",
    )
