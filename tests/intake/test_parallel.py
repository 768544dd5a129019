"""Rows that are checked ahead, in processes and by their lengths alone, against a slow intake row by row."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drsft.config import Problems, Prompts
from drsft.errors import InputError, StorageError
from drsft.intake import parallel
from drsft.intake.checking import RowRules, check_row, check_rows
from drsft.intake.parallel import check_in_order
from drsft.intake.problems import Intake, read_problems
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.policy.prompts import Prompter, load_prompter
from drsft.records import Problem, QuarantinedRow
from drsft.verify.kinds import KINDS

MAX_MODEL_LEN = 220


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", Prompts(plain="{question}"))


def rules_of(config: Problems) -> RowRules:
    return RowRules(config=config, kinds=frozenset(KINDS), needs_demonstration=True)


def slow_intake(config: Problems, prompter: Prompter) -> tuple[list[Problem], int, int, list[QuarantinedRow]]:
    """One row after another in this process, every text tokenised, Python's own sets."""
    problems: list[Problem] = []
    solutions: set[tuple[str, str]] = set()
    aside: list[QuarantinedRow] = []
    num_read = num_duplicates = 0
    for row in read_rows(config):
        num_read += 1
        checked = check_row(row, rules_of(config))
        if isinstance(checked, QuarantinedRow):
            aside.append(checked)
            continue
        problem, place = checked.problem, checked.place
        num_tokens = len(prompter.plain(problem)) + len(prompter.completion(problem.demonstration))
        if num_tokens > MAX_MODEL_LEN:
            detail = f"{num_tokens} tokens, target.max_model_len is {MAX_MODEL_LEN}"
            content = problem.question[:500]
            aside.append(
                QuarantinedRow(place=place, reason="too long for the model", detail=detail, content=content)
            )
        elif (problem.problem_id, problem.demonstration) in solutions:
            num_duplicates += 1
        elif any(problem.problem_id == kept.problem_id for kept in problems):
            solutions.add((problem.problem_id, problem.demonstration))
            reason, detail = (
                "another solution to an earlier problem",
                f"problem {problem.problem_id} keeps its first one",
            )
            content = problem.demonstration[:500]
            aside.append(QuarantinedRow(place=place, reason=reason, detail=detail, content=content))
        else:
            solutions.add((problem.problem_id, problem.demonstration))
            problems.append(problem)
        if config.limit is not None and len(problems) >= config.limit:
            break
    return problems, num_read, num_duplicates, aside


def random_line(draw: random.Random) -> str:
    number = draw.randrange(60)
    row: dict[str, object] = {
        "problem": f"What is {number} + 1?",
        "solution": "so \\boxed{x}",
        "answer": number + 1,
    }
    match draw.randrange(12):
        case 0:
            return draw.choice(["", "no JSON", "[1]", '{"problem": "\\ud800", "solution": "s", "answer": 1}'])
        case 1:
            row.pop(draw.choice(list(row)))
        case 2:
            row["solution"] = draw.choice(["another", "a third"])
        case 3:
            row["solution"] = "word " * draw.randrange(20, 60)
        case 4:
            row["problem"] = "é東😀" * draw.randrange(1, 40)
        case 5:
            row["answer"] = draw.choice(["", "\\frac{1}{2}", "a long sentence that nobody says again " * 3])
        case 6:
            row["solution"] = "<|im_end|> and <|im_start|> " * draw.randrange(1, 9)
    return json.dumps(row)


@pytest.mark.parametrize("limit", [None, 25, 70])
@pytest.mark.parametrize("seed", range(4))
def test_reading_ahead_gives_what_a_slow_intake_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompter: Prompter, seed: int, limit: int | None
) -> None:
    monkeypatch.setattr(parallel, "CHUNK_ROWS", 7)
    monkeypatch.setattr(parallel, "CHUNKS_ALONE", 2)
    monkeypatch.setattr(parallel, "MAX_WORKERS", seed)
    draw = random.Random(seed)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(random_line(draw) + "\n" for _ in range(300)))
    config, intake = Problems(path=str(path), limit=limit), Intake()
    found = list(read_problems(config, intake, prompter=prompter, max_model_len=MAX_MODEL_LEN))
    problems, num_read, num_duplicates, aside = slow_intake(config, prompter)
    assert found == problems
    assert (intake.num_read, intake.num_duplicates) == (num_read, num_duplicates)
    assert intake.quarantined == aside
    assert (
        limit
        or {"too long for the model", "reference cannot be met", "not valid Unicode"} <= intake.reasons.keys()
    )


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_give_the_rows_in_order(num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK_ROWS", 50)
    rows, rules = list(rows_of(5_000)), rules_of(Problems(path="p"))
    found = [one for chunk in check_in_order(iter(rows), rules, num_workers=num_workers) for one in chunk]
    assert found == check_rows(rows, rules)


@pytest.mark.parametrize("command", [(sys.executable, "-c", "pass"), ("/nowhere/python",)])
def test_a_worker_that_dies_or_does_not_start_changes_nothing(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "WORKER", command)
    monkeypatch.setattr(parallel, "CHUNKS_ALONE", 1)
    rows, rules = list(rows_of(2_000)), rules_of(Problems(path="p"))
    found = [one for chunk in check_in_order(iter(rows), rules, num_workers=2) for one in chunk]
    assert found == check_rows(rows, rules)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_reading_raises_comes_behind_the_rows_before_it(num_workers: int) -> None:
    def broken() -> Iterator[Row | BadRow]:
        yield from rows_of(5_000)
        raise StorageError("the disk is gone")

    chunks = check_in_order(broken(), rules_of(Problems(path="p")), num_workers=num_workers)
    num_found = 0
    while num_found < 5_000:
        num_found += len(next(chunks))
    with pytest.raises(StorageError, match="the disk is gone"):
        list(chunks)


def test_what_lies_behind_the_limit_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK_ROWS", 7)
    monkeypatch.setattr(parallel, "CHUNKS_ALONE", 2)
    monkeypatch.setattr(parallel, "MAX_WORKERS", 2)
    rows = [{"problem": f"What is {one}?", "solution": "s", "answer": "1"} for one in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.parquet").write_bytes(b"no Parquet at all")
    assert len(list(read_problems(Problems(path=str(tmp_path), limit=299), Intake()))) == 299
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list(read_problems(Problems(path=str(tmp_path)), Intake()))


def test_no_worker_outlives_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[parallel._Workers] = []
    stop = parallel._Workers.stop

    def noted(workers: parallel._Workers) -> None:
        started.append(workers)
        stop(workers)

    monkeypatch.setattr(parallel._Workers, "stop", noted)
    monkeypatch.setattr(parallel, "CHUNKS_ALONE", 1)
    chunks = check_in_order(rows_of(50_000), rules_of(Problems(path="p")), num_workers=2)
    for _ in range(40):
        next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    (workers,) = started
    assert workers._processes
    assert all(process.returncode is not None for process in workers._processes)


def rows_of(number: int) -> Iterator[Row | BadRow]:
    for one in range(number):
        if one % 10 == 3:
            yield BadRow(f"line {one}", "not JSON", "x")
        else:
            yield Row(f"line {one}", {"problem": f"What is {one}?", "solution": "s", "answer": str(one)})
