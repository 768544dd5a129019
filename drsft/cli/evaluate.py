"""Prints the results of `drsft evaluate`: scores, comparisons of two models, and verdicts changed by judging
again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from drsft.config import RunConfig
from drsft.errors import ConfigError, InputError
from drsft.evaluate.paired import PairedDifference
from drsft.evaluate.rejudge import Rejudged, rejudge_run
from drsft.evaluate.results import ArmScore, arm_scores, pick_models, samples_of
from drsft.evaluate.scores import BenchmarkSamples, compare
from drsft.run.rounds import rounds_of
from drsft.run.run import Run, find_run, open_run
from drsft.verify.pool import VerifierPool
from drsft.verify.version import verifier_version

__all__ = ["WIDTH", "compare_models", "rejudge", "show_scores"]

WIDTH = 160  # where the output is not a terminal: every column whole


def show_scores(config: RunConfig, console: Console) -> None:
    """Prints a table with the scores of each arm on each benchmark, for all rounds of the run.

    Raises ConfigError if the configuration names no benchmark.
    """
    if not config.evaluate.benchmarks:
        raise ConfigError(
            "evaluate.benchmarks names no benchmark; give one, as in evaluate.benchmarks=[gsm8k]"
        )
    table = _table("benchmark", "arm", "avg@k", "95 % interval", "pass@k", "maj@k", "cut off", "no answer")
    table.add_column("unjudged", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("overlap", justify="right")
    table.add_column("avg@k clean", justify="right")
    for one_round in rounds_of(open_run(config)):
        for one in arm_scores(one_round.run):
            table.add_row(*_score_cells(one, one_round.number))
    console.print(table)
    console.print(
        f"k = {config.evaluate.num_samples}; overlap: training problems that share words with the benchmark; "
        "clean: its problems that none overlaps with",
        style="dim",
        highlight=False,
    )


def _name(model: str, number: int) -> str:
    return model if number == 1 else f"{model} (round {number})"


def _score_cells(one: ArmScore, number: int) -> Iterator[str]:
    score, mean = one.score, one.score.avg_at_k
    yield from (
        one.benchmark,
        _name(one.arm, number),
        _percent(mean.value),
        f"{_percent(mean.low)} to {_percent(mean.high)}",
    )
    yield _percent(score.pass_at_k.value)
    yield _percent(score.maj_at_k.value) if score.maj_at_k else ""
    yield from map(_percent, (score.truncated_share, score.no_answer_share, score.unjudged_share))
    yield f"{score.mean_tokens:,.0f}"
    yield f"{one.overlap.num_overlapping:,}" if one.overlap else ""
    yield _percent(one.clean_score.avg_at_k.value) if one.clean_score else ""


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison: a model, or all trainings of an arm, in some run."""

    run: Run
    model: str

    def samples(self, benchmark: str) -> BenchmarkSamples | None:
        models = pick_models(self.run.config, self.model)
        named = [one for one in self.run.config.evaluate.benchmarks if one.name == benchmark]
        return samples_of(self.run, models, named[0]) if named else None


def compare_models(config: RunConfig, first: str, second: str, console: Console) -> None:
    """Prints the first model's accuracy minus the second's on every benchmark on which both were evaluated.

    Raises InputError if there is no such benchmark.
    """
    sides = _side(config, first), _side(config, second)
    table = _table("benchmark", first, second, "difference", "95 % interval", "gained", "lost", "problems")
    num_compared = 0
    for benchmark in config.evaluate.benchmarks:
        samples = [side.samples(benchmark.name) for side in sides]
        if samples[0] is None or samples[1] is None:
            continue
        difference = compare(samples[0], samples[1])
        if difference is not None:
            num_compared += 1
            table.add_row(*_difference_cells(benchmark.name, samples[0], samples[1], difference))
    if not num_compared:
        raise InputError(
            f"no benchmark of {config.run_id} was evaluated with both {first} and {second}; "
            "run drsft evaluate first"
        )
    console.print(table)
    console.print(
        "gained, lost: problems that only the first or only the second solves in most samples; "
        "* the interval leaves zero out",
        style="dim",
        highlight=False,
    )


def _side(config: RunConfig, named: str) -> _Side:
    """Returns a model of this run, or that of another one written WHERE:MODEL."""
    where, separator, model = named.rpartition(":")
    run = find_run(where) if separator else open_run(config)
    pick_models(run.config, model)
    return _Side(run, model)


def _difference_cells(
    benchmark: str, first: BenchmarkSamples, second: BenchmarkSamples, difference: PairedDifference
) -> Iterator[str]:
    yield benchmark
    yield from (_percent(float(samples.correct_SPK.mean())) for samples in (first, second))
    yield f"{100 * difference.value:+.1f}{' *' if difference.is_clear else ''}"
    yield f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    yield from (str(difference.num_gained), str(difference.num_lost))
    left_out = max(len(first.problem_ids), len(second.problem_ids)) - difference.num_problems
    yield f"{difference.num_problems:,}" + (f" ({left_out:,} not in both)" if left_out else "")


def rejudge(config: RunConfig, console: Console) -> None:
    """Judges the run's evaluation samples again with this version of the verifier, stores the new verdicts,
    and prints what changed. No sample is drawn again.

    Samples that this version has judged already are skipped, unless some are UNJUDGED. Raises InputError if
    no evaluation is complete.
    """
    num_workers = config.resources.engine_share.num_workers * config.resources.verify_workers_per_actor
    with VerifierPool.from_config(config.rewrite.verification, num_workers=num_workers) as verifier:
        results = [
            (one_round.number, one)
            for one_round in rounds_of(open_run(config))
            for one in rejudge_run(one_round.run, verifier, version=verifier_version())
        ]
    if not results:
        raise InputError(f"run {config.run_id} has no complete evaluation; start one with drsft evaluate")
    table = _table("benchmark", "model", "samples", "correct before", "now", "changed")
    for number, one in results:
        table.add_row(*_rejudged_cells(one, number))
    console.print(table)
    console.print(
        f'the column "now" was judged by verifier {verifier_version()}', style="dim", highlight=False
    )


def _rejudged_cells(one: Rejudged, number: int) -> Iterator[str]:
    yield from (one.benchmark, _name(one.model.shown_name, number), f"{one.num_samples:,}")
    yield from (f"{one.num_correct_before:,}", f"{one.num_correct_now:,}")
    changes = ", ".join(f"{count} {old} > {new}" for (old, new), count in one.changes.most_common())
    yield changes or ("nothing" if one.is_new else "was judged by this verifier")


def _table(*names: str) -> Table:
    """Returns an empty table.

    Its first two columns (names) are never cut; numbers wrap on narrow terminals.
    """
    texts = [Column(name, no_wrap=True) for name in names[:2]]
    numbers = [Column(name, justify="right", overflow="fold") for name in names[2:]]
    return Table(*texts, *numbers, box=SIMPLE)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
