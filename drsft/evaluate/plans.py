"""Plans the benchmarks of a run: their problems cut into shards, and their prompts."""

from drsft.config import RunConfig
from drsft.errors import StorageError
from drsft.intake.planning import plan_problems
from drsft.policy.prompts import Prompter
from drsft.run import layout
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.verify.kinds import kinds_of

__all__ = ["benchmark_prompters", "plan_benchmarks", "read_plans"]


def benchmark_prompters(config: RunConfig, prompter: Prompter) -> dict[str, Prompter]:
    """Returns for each benchmark, by name, the prompter that renders its questions."""
    evaluate, own = config.evaluate, config.target.prompts
    return {
        benchmark.name: prompter.under(evaluate.prompts_for(benchmark, own), system_key="evaluate.system")
        for benchmark in evaluate.benchmarks
    }


def plan_benchmarks(run: Run, prompter: Prompter) -> dict[str, Plan]:
    """Cuts the problems of every benchmark into shards, stores them, and returns the plans by benchmark name.

    The problems need no expert solution here.
    """
    config, prompters = run.config, benchmark_prompters(run.config, prompter)
    kinds = kinds_of(config.rewrite.verification)
    return {
        benchmark.name: plan_problems(
            benchmark.problems,
            run.store,
            layout.benchmark(benchmark),
            prompter=prompters[benchmark.name],
            max_model_len=config.target.max_model_len,
            needs_demonstration=False,
            kinds=kinds,
        )
        for benchmark in config.evaluate.benchmarks
    }


def read_plans(run: Run) -> dict[str, Plan]:
    """Returns the plans that `plan_benchmarks` wrote. Raises StorageError if a benchmark has no plan."""
    plans = {one.name: run.benchmark_plan(one) for one in run.config.evaluate.benchmarks}
    unplanned = [name for name, plan in plans.items() if plan is None]
    if unplanned:
        raise StorageError(
            f"{run.url} has no stored problems of {', '.join(unplanned)} yet; run drsft evaluate"
        )
    return {name: plan for name, plan in plans.items() if plan is not None}
