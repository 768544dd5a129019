"""A driver's process: the command line with another policy, and a lease that expires in seconds.

All else is what `drsft` runs. Drivers are forked from a process that has imported everything, which spares
a trial the seconds that this takes. Of the environment: FAULTS_JOURNAL names the journal; FAULTS_CLOCK_S adds
so many seconds to time.time() from a random moment on, here and in the actors; FAULTS_ENGINE=1 leaves the
engine in.
"""

import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import boto3  # noqa: F401  (imported before the fork, as all that a driver imports late)
from transformers import AutoConfig, AutoTokenizer  # noqa: F401

from drsft import cli
from drsft.run import lease
from drsft.run.lease import LeaseTiming
from drsft.stages import pipeline, rewriting  # noqa: F401
from tests.faults.workload import journalling_policy, step_clock

__all__ = ["run_forked"]

PACE = LeaseTiming(beat_s=0.5, expires_s=4.0)


def run_forked(arguments: Sequence[str], environment: Mapping[str, str], log: Path, stdout: Path) -> None:
    """`drsft ARGUMENTS` in this process, which ends with its exit code; stderr goes to `log`."""
    os.setsid()
    for number, path in ((1, stdout), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.environ.clear()
    os.environ.update(environment)
    run(arguments, environment)


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """`drsft ARGUMENTS` with the policy and the pace of trials."""
    sys.argv = ["drsft", *arguments]
    clock_s = float(environment.get("FAULTS_CLOCK_S", "0"))
    if clock_s:
        step_clock(clock_s, after_s=random.uniform(0, 10))
    if not environment.get("FAULTS_ENGINE"):
        policy = partial(journalling_policy, journal=Path(environment["FAULTS_JOURNAL"]), clock_s=clock_s)
        run_rewriting: Callable[..., Any] = rewriting.run_rewriting
        rewriting.run_rewriting = partial(run_rewriting, make_policy=policy)
    lease.held = partial(lease.held, pace=PACE)
    cli.main()


if __name__ == "__main__":  # as a submitted job
    run(sys.argv[1:], os.environ)
