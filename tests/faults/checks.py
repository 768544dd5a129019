"""What must hold when a disturbed run has come to its end, against an undisturbed one."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import pyarrow.parquet as pq

from drsft.run.shards import ShardSet
from drsft.storage import LocalStore, S3Store, Store

__all__ = ["Ended", "Subject", "clear_end", "left_over", "observe", "still_alive", "wrong_records"]

Subject = Literal["records", "engine", "training"]

# Of a commit's summary these tell times, places, and what depended on them.
TIMED = {"started_at", "ended_at", "actor", "cpu_s", "peak_rss_mib", "stopped_tokens", "pairs"}
CLEAR_CODES = {1, 2, 3, 129, 130, 143}  # docs/jobs.md
PATIENCE_S = 30.0  # for processes that notice that they are orphans


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a driver ended, and all that it wrote to stderr."""

    code: int
    said: str


def observe(run: Store, subject: Subject) -> dict[str, str]:
    """Digests of what a run has made, by name: what a disturbed run must have too.

    Of records the bytes of each shard and its summary without times. Real engines repeat their tokens but not
    the last digits of their log-probs, so of theirs the kept tokens alone. Of a training its weights too.
    """
    commits = ShardSet(run, "rewrite").commits()
    if subject == "engine":
        rows = [row for commit in commits.values() for row in _rows(run, commit.data_key)]
        return {row["problem_id"]: _digest(repr((row["source"], row["completion_ids"]))) for row in rows}
    made = {}
    for shard, commit in commits.items():
        summary = {name: value for name, value in commit.summary.items() if name not in TIMED}
        made[shard] = _digest(run.read(commit.data_key), json.dumps(summary, sort_keys=True))
    if subject == "training":
        exports = [key for key in run.keys("train") if key.endswith("/export/model.safetensors")]
        made |= {key: _digest(run.read(key)) for key in exports}
    return made


def wrong_records(run: Store, subject: Subject, reference: Mapping[str, str]) -> dict[str, list[str]]:
    """Problems lost and doubled, and what is not as in the undisturbed run."""
    commits = ShardSet(run, "rewrite").commits()
    rows = [row["problem_id"] for commit in commits.values() for row in _rows(run, commit.data_key)]
    plan = list(run.keys("problems/shards"))
    planned = {row["problem_id"] for key in plan for row in _rows(run, key)}
    counts, made = Counter(rows), observe(run, subject)
    return {
        "lost": sorted(planned - counts.keys()) + sorted(reference.keys() - made.keys()),
        "doubled": sorted(one for one, count in counts.items() if count > 1),
        "wrong": sorted(name for name in made if made[name] != reference.get(name)),
    }


def _rows(run: Store, key: str) -> list[dict[str, Any]]:
    columns = ["problem_id", "source", "completion_ids"] if key.startswith("rewrite/") else ["problem_id"]
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(run.read(key)), columns=columns).to_pylist()
    return rows


def _digest(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def clear_end(ended: Ended) -> str | None:
    """What is unclear about the end of a driver that was not killed; None for 0 and for a clear error."""
    if ended.code == 0:
        return None
    last = (ended.said.strip().splitlines() or [""])[-1]
    if ended.code not in CLEAR_CODES:
        return f"exit code {ended.code}: {last[:300]}"
    if "Traceback" in ended.said:
        return f"a traceback: {last[:300]}"
    return None if last.startswith(("error: ", "stopped; ")) else f"no clear last line: {last[:300]}"


def left_over(run: Store, temp: Path, s3: Any) -> list[str]:
    """Temporary files, unfinished uploads, and records that no commit names."""
    named = {commit.data_key for commit in ShardSet(run, "rewrite").commits().values()}
    found = [f"uncommitted {key}" for key in run.keys("rewrite/data") if key not in named]
    found += [str(path) for path in temp.iterdir()]
    if isinstance(run, LocalStore):
        found += [str(path) for path in run.root.rglob("*.tmp")]
    if isinstance(run, S3Store):
        listing = s3.list_multipart_uploads(Bucket=run.bucket, Prefix=run.prefix)
        found += [f"unfinished upload {one['Key']}" for one in listing.get("Uploads", [])]
    return found


def still_alive(processes: Iterable[psutil.Process]) -> list[str]:
    """Those of a run that has ended which do not go away by themselves."""
    _, alive = psutil.wait_procs(list(processes), timeout=PATIENCE_S)
    return [f"{one.pid} {_command(one)}" for one in alive]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:120]
    except psutil.Error:
        return "?"
