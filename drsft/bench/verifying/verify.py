"""`drsft bench verify`: our verdicts and math-verify's on the same labelled cases, in the same run.

Cases are JSON lines (gzip allowed) of {"reference", "prediction", "expected", "kind"?, "question"?,
"dubious"?, "dubious_stage"?}. A row with "dubious" has a label that is open to dispute; the bench also shows
the agreement without such rows. "dubious_stage" tells whether that was found before the run. The kind is
"math" unless a row names another; the options of a choice stand in its question. math-verify has no kinds of
problems and gets every row as mathematics. If there are several files, the results of each are shown, too. A
verdict agrees with its case if it is CORRECT where acceptance is expected, or is not where refusal is
expected. Times are medians of rounds, in each of which one tool runs after the other. Both have the same
number of workers, which are warm, and new in every round, so that nothing is cached.
"""

import gzip
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drsft.errors import InputError
from drsft.records import Problem
from drsft.verify.pool import VerifierPool

__all__ = ["Agreement", "VerifyBench", "bench_verify", "print_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    name: str
    num_cases: int
    num_false_accepts: int
    num_false_rejects: int

    @property
    def share(self) -> float:
        return 1 - (self.num_false_accepts + self.num_false_rejects) / max(1, self.num_cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyBench:
    """The speed of drsft (`ours`) and of math-verify (`peer`), in cases per second, and for each file of
    cases how often each of them agrees with the labels.
    """

    num_workers: int
    ours_per_s: float
    peer_per_s: float
    integers_s: float  # time for 1,000 integer answers
    ours: tuple[Agreement, ...]
    peer: tuple[Agreement, ...]
    disagreements: tuple[dict[str, Any], ...]  # our own with the labels, outside the dubious ones

    @property
    def speedup(self) -> float:
        return self.ours_per_s / self.peer_per_s


def bench_verify(*cases: Path, num_workers: int = 1, num_rounds: int = 3) -> VerifyBench:
    """Measures drsft and math-verify alternately, `num_rounds` times each, on the cases of all files.

    Raises InputError if a file cannot be read.
    """
    rows_of_files = [(path.name.removesuffix(".gz").removesuffix(".jsonl"), _rows(path)) for path in cases]
    rows = [row for _, part in rows_of_files for row in part]
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    integers: list[float] = []
    ours: list[bool] = []
    peer: list[bool] = []
    for _ in range(num_rounds):
        with VerifierPool(num_workers=num_workers, cache_size=0) as pool:
            for future in [
                pool.submit(_problem(r"\int_0^1 x\,dx"), "x^2" * (index + 1))
                for index in range(4 * num_workers)
            ]:
                future.result()
            ours = _timed(partial(_judge_all, pool, rows), times["ours"])
            _timed(partial(_judge_all, pool, _integers()), integers)
        peers = [_Peer() for _ in range(num_workers)]
        peer = _timed(partial(_judge_by_peers, peers, rows), times["peer"])
        for process in peers:
            process.close()
    return VerifyBench(
        num_workers=num_workers,
        ours_per_s=len(rows) / statistics.median(times["ours"]),
        peer_per_s=len(rows) / statistics.median(times["peer"]),
        integers_s=statistics.median(integers),
        ours=_agreements(rows_of_files, ours),
        peer=_agreements(rows_of_files, peer),
        disagreements=tuple(
            row
            for row, found in zip(rows, ours, strict=True)
            if found != row["expected"] and not row.get("dubious")
        ),
    )


def print_bench(bench: VerifyBench, console: Console | None = None) -> None:
    console = console or Console()
    table = Table("cases", title=f"{bench.num_workers} worker(s) each")
    for heading in (
        "number",
        "drsft",
        "false accepts",
        "false rejects",
        "math-verify",
        "f. accepts",
        "f. rejects",
    ):
        table.add_column(heading, justify="right")
    for ours, peer in zip(bench.ours, bench.peer, strict=True):
        table.add_row(
            ours.name,
            str(ours.num_cases),
            f"{100 * ours.share:.2f} %",
            str(ours.num_false_accepts),
            str(ours.num_false_rejects),
            f"{100 * peer.share:.2f} %",
            str(peer.num_false_accepts),
            str(peer.num_false_rejects),
        )
    console.print(table)
    console.print(
        f"throughput: drsft {bench.ours_per_s:.0f} cases/s, math-verify {bench.peer_per_s:.0f} cases/s, "
        f"{bench.speedup:.1f} times; 1,000 integer answers in {bench.integers_s:.2f} s"
    )


def _rows(cases: Path) -> list[dict[str, Any]]:
    opener: Callable[..., Any] = gzip.open if cases.suffix == ".gz" else open
    try:
        with opener(cases, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read cases from {cases}: {error}; give JSON lines, also .gz") from None


def _timed(work: Callable[[], list[bool]], times: list[float]) -> list[bool]:
    start = time.perf_counter()
    result = work()
    times.append(time.perf_counter() - start)
    return result


def _judge_all(pool: VerifierPool, rows: Sequence[dict[str, Any]]) -> list[bool]:
    futures = [
        pool.submit(
            Problem(
                problem_id="",
                question=row.get("question", ""),
                demonstration="",
                reference=row["reference"],
                kind=row.get("kind", "math"),
            ),
            row["prediction"],
        )
        for row in rows
    ]
    return [future.result().is_correct for future in futures]


def _problem(reference: str) -> Problem:
    return Problem(problem_id="", question="", demonstration="", reference=reference)


def _integers() -> list[dict[str, Any]]:
    return [{"reference": str(n), "prediction": f"So the answer is {n}."} for n in range(1_000, 2_000)]


class _Peer:
    """A worker process that runs math-verify."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "drsft.bench.verifying.peer_math_verify"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.stdout.readline()

    def judge(self, rows: Sequence[dict[str, Any]], verdicts: list[bool], start: int, step: int) -> None:
        for index in range(start, len(rows), step):
            self.stdin.write(json.dumps([rows[index]["reference"], rows[index]["prediction"]]) + "\n")
            self.stdin.flush()
            verdicts[index] = self.stdout.readline().strip() == "1"

    def close(self) -> None:
        self.stdin.close()
        self.process.wait()


def _judge_by_peers(peers: Sequence[_Peer], rows: Sequence[dict[str, Any]]) -> list[bool]:
    verdicts = [False] * len(rows)
    threads = [
        threading.Thread(target=peer.judge, args=(rows, verdicts, index, len(peers)))
        for index, peer in enumerate(peers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def _agreements(
    rows_of_files: Sequence[tuple[str, Sequence[dict[str, Any]]]], accepted: Sequence[bool]
) -> tuple[Agreement, ...]:
    """Returns the agreement on all rows, on each of several files, and without dubious rows if there
    are any.
    """
    judged = list(zip([row for _, rows in rows_of_files for row in rows], accepted, strict=True))
    sets = [("all", judged)]
    if len(rows_of_files) > 1:
        start = 0
        for name, rows in rows_of_files:
            sets.append((name, judged[start : start + len(rows)]))
            start += len(rows)
    if any(row.get("dubious") for row, _ in judged):
        undisputed = [pair for pair in judged if not pair[0].get("dubious")]
        undisputed_before = [pair for pair in judged if pair[0].get("dubious_stage") != "before run"]
        sets += [
            ("without any dubious one", undisputed),
            ("without those dubious beforehand", undisputed_before),
        ]
    return tuple(
        Agreement(
            name=name,
            num_cases=len(pairs),
            num_false_accepts=sum(found and not row["expected"] for row, found in pairs),
            num_false_rejects=sum(row["expected"] and not found for row, found in pairs),
        )
        for name, pairs in sets
    )
