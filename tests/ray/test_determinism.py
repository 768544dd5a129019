"""One actor or two: the same problems get the same samples, and the same text is chosen."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from drsft.config.configfile import load_config

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs/configs/quickstart.yaml"
SMALL = ("problems.limit=32", "problems.shard_size=4")
PLANNED = ("stage", "sample_index", "seed", "prompt_hash")


def records(storage: Path, *, num_actors: int, shards_in_flight: int) -> dict[str, dict[str, Any]]:
    """The rewritten rows by problem id."""
    overrides = [
        *SMALL,
        f"storage={storage}",
        f"resources.rewrite_actors={num_actors}",
        f"resources.shards_in_flight_per_actor={shards_in_flight}",
    ]
    command = [sys.executable, "-m", "drsft.cli", "rewrite", str(CONFIG), *overrides]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = storage / load_config(CONFIG, SMALL).run_id
    commits = [json.loads(path.read_text()) for path in (folder / "rewrite/commits").glob("*.json")]
    rows = [row for commit in commits for row in pq.read_table(folder / commit["data_key"]).to_pylist()]
    return {row["problem_id"]: row for row in rows}


@pytest.mark.timeout(600)  # two whole runs, three engines
def test_the_number_of_actors_changes_neither_what_is_asked_nor_what_is_kept(tmp_path: Path) -> None:
    one = records(tmp_path / "one", num_actors=1, shards_in_flight=8)
    two = records(tmp_path / "two", num_actors=2, shards_in_flight=1)
    assert one.keys() == two.keys()
    assert len(one) == 32
    for problem_id, row in one.items():
        other = two[problem_id]
        plans = [[tuple(a[key] for key in PLANNED) for a in r["attempts"]] for r in (row, other)]
        assert plans[0] == plans[1]
        # Tokens, not log-probs: their last digits depend on what else is in the engine's batch.
        assert [a["token_ids"] for a in row["attempts"]] == [a["token_ids"] for a in other["attempts"]]
        assert (row["source"], row["completion_ids"]) == (other["source"], other["completion_ids"])
