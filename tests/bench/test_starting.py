"""`drsft bench start`: seconds until a run's first commit, and the ratios that its table prints."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from drsft.bench.rewriting.starting import Start, bench_start, print_bench
from drsft.errors import InputError, StageError


def _rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.ray
@pytest.mark.engine
def test_a_start_ends_with_the_first_shard(tmp_path: Path) -> None:
    row = {"problem": "What is 1 + 1?", "solution": "1 + 1 = \\boxed{2}", "answer": "2"}
    data = _rows(tmp_path / "data.jsonl", row)
    (start,) = bench_start([data], model="embedded", sizes=[40], peer=None, num_rounds=1)
    assert (start.build, start.num_rows) == ("this", 40)


@pytest.mark.slow
def test_a_run_that_ends_without_a_shard_says_so(tmp_path: Path) -> None:
    data = _rows(tmp_path / "data.jsonl", {"problem": "?", "solution": "!", "answer": "!"})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StageError, match=r"no shard of 1\.jsonl was committed"):
        list(bench_start([data], model=str(tmp_path), sizes=[1], peer=None, num_rounds=1))


def test_another_checkout_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git worktree add"):
        list(bench_start([], model="embedded", sizes=[1], peer=tmp_path, num_rounds=1))


def test_sizes_are_compared_with_the_first_and_builds_with_each_other() -> None:
    seconds = {
        ("this", 10): (10, 20),
        ("this", 1_000): (15, 20),
        ("other", 10): (40, 40),
        ("other", 1_000): (60, 20),
    }
    starts = [
        Start(build=build, num_rows=size, seconds=several[number])
        for number in range(2)
        for (build, size), several in seconds.items()
    ]
    console = Console(record=True, width=100)
    print_bench(starts, console)
    told = console.export_text()
    assert "1,000 rows took 1.25 (1.00 to 1.50) times as long as 10; median (least to most)" in told
    assert "10 rows took 0.38 (0.25 to 0.50) times the other build's time; median (least to most)" in told
