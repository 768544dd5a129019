"""The screens at work on a dataset: what is set aside stands in the quarantine, row by row."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from drsft.config import Benchmark, Decontaminate, NearDuplicates, Problems, Prompts
from drsft.config.configfile import load_config
from drsft.errors import ConfigError
from drsft.intake.planning import plan_problems, screens_for
from drsft.policy.prompts import load_prompter
from drsft.run.layout import PROBLEMS
from drsft.run.plan import read_shard
from drsft.storage import LocalStore

STORY = (
    "Ann picks 12 ripe apples in the old garden behind the house, eats 3 and sells 4 of them. How many stay?"
)
BENCHMARK = (
    "A train leaves the station at noon and travels 300 kilometres at a speed of 75 kilometres an hour."
)


def dataset(path: Path, *questions: str, answer: str = "5") -> str:
    rows = [{"problem": text, "solution": "so", "answer": answer} for text in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_near_duplicates_and_benchmark_problems_are_quarantined_row_by_row(tmp_path: Path) -> None:
    path = dataset(
        tmp_path / "train.jsonl",
        STORY,
        STORY.replace("Ann", "Bob"),
        STORY,
        f"Solve this. {BENCHMARK} When does it arrive?",
        STORY.replace("12", "13"),
    )
    problems = Problems(path=path, near_duplicates=NearDuplicates(), decontaminate=Decontaminate())
    benchmark = Problems(path=dataset(tmp_path / "test.jsonl", BENCHMARK, answer="4"))
    store = LocalStore(tmp_path / "run")
    plan = plan_problems(
        problems,
        store,
        PROBLEMS,
        prompter=load_prompter("embedded", Prompts()),
        max_model_len=4096,
        screens=screens_for(problems, [Benchmark(name="trains", problems=benchmark)]),
    )
    assert (plan.num_read, plan.num_problems, plan.num_duplicates) == (5, 2, 1)
    assert plan.quarantined == {"near-duplicate": 1, "in benchmark trains": 1}
    assert [one.question for one in read_shard(store, PROBLEMS, "00000")] == [
        STORY,
        STORY.replace("12", "13"),
    ]
    rows = [json.loads(line) for line in store.read("problems/quarantine.jsonl").splitlines()]
    assert [row["place"].rsplit(" ", 1)[1] for row in rows] == ["2", "4"]
    assert f"{path} line 1" in rows[0]["detail"]
    assert "travels 300 kilometres" in rows[1]["detail"]
    assert rows[1]["content"].startswith("Solve this.")


def test_nothing_is_screened_unless_asked_for(tmp_path: Path) -> None:
    assert screens_for(Problems(path="p"), ()) == []


def test_a_benchmark_is_never_thinned_out() -> None:
    with pytest.raises(ValidationError, match="a benchmark is evaluated as it is"):
        Benchmark(name="b", problems=Problems(path="p", near_duplicates=NearDuplicates()))


def test_the_configuration_reads_empty_braces_and_joins_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nproblems: {path: p}\ntarget: {model: m}\n"
        "evaluate: {benchmarks: [{name: b, problems: {path: q}}]}\n"
    )
    plain = load_config(path)
    screened = load_config(path, ["problems.near_duplicates={}", "problems.decontaminate={ngram: 10}"])
    assert screened.problems.near_duplicates == NearDuplicates()
    assert screened.problems.decontaminate == Decontaminate(ngram=10)
    assert len({plain.fingerprint, screened.fingerprint}) == 2


def test_decontaminating_against_no_benchmark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\nproblems: {path: p, decontaminate: {}}\ntarget: {model: m}\n")
    with pytest.raises(ConfigError, match=r"evaluate\.benchmarks names no benchmark"):
        load_config(path)
