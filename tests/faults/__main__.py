"""The long form: many trials, in slices if need be; results are appended, and the same command goes on.

    python -m tests.faults --trials 200 --seed 0 --out DIR [--seconds 400]

Ends with 1 when a trial had any trouble.
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.suite import Suite, read_results, running_services
from tests.faults.table import markdown
from tests.faults.trial import Result, draw_fault

__all__ = ["main"]

BLOCK = 24


def run_slice(suite: Suite, numbers: Sequence[int], *, lanes: int, seconds: float) -> None:
    """Begins trials for so many seconds, block by block, so that those which are done are a fair sample of
    the deck. Of a block those that disturb others come first, alone, then the rest side by side.
    """
    until_s = time.monotonic() + seconds
    for begin in range(0, len(numbers), BLOCK):
        block = numbers[begin : begin + BLOCK]
        alone = [number for number in block if draw_fault(suite.seed, number)[0].is_alone]
        _run(suite, alone, lanes=1, until_s=until_s)
        _run(suite, sorted(set(block) - set(alone)), lanes=lanes, until_s=until_s)


def _run(suite: Suite, numbers: Sequence[int], *, lanes: int, until_s: float) -> None:
    def run(number: int) -> None:
        if time.monotonic() > until_s:
            return
        try:
            print(describe(suite.run(number)), flush=True)
        except Exception:  # of the suite itself: the others are to run all the same
            print(f"{number:4d} could not be tried:\n{traceback.format_exc()}", flush=True)

    pool = ThreadPoolExecutor(lanes)
    try:
        list(pool.map(run, numbers))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def describe(one: Result) -> str:
    """A line for the terminal."""
    troubles = f"  TROUBLE {json.dumps(one.troubles)[:600]}" if one.troubles else ""
    return (
        f"{one.number:4d} {one.fault} [{one.place}, {one.moment}]: {one.end}, {one.num_starts} starts, "
        f"{one.shards_redone} shards redone, {one.wall_s} s{troubles}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="results; those that are there are kept")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no trial after so many")
    parser.add_argument("--lanes", type=int, default=2, help="trials side by side")
    parser.add_argument("--only", type=int, nargs="*", help="these trials alone")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through all the services' ends
    out = arguments.out.absolute()
    done = {one.number for one in read_results(out)}
    if missing := [number for number in arguments.only or range(arguments.trials) if number not in done]:
        with running_services(os.environ.__setitem__) as services:
            suite = Suite(out, arguments.seed, services)
            run_slice(suite, missing, lanes=arguments.lanes, seconds=arguments.seconds)
    results = read_results(out)
    print(markdown(results))
    sys.exit(any(one.troubles for one in results))


if __name__ == "__main__":
    main()
