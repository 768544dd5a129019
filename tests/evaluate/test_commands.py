"""Judging anew, comparing two models and the overlap with training data, on samples that lie in a store."""

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from drsft.cli.evaluate import compare_models, show_scores
from drsft.config import RunConfig
from drsft.errors import ConfigError, InputError
from drsft.evaluate.answers import answer_groups
from drsft.evaluate.contamination import measure_contamination, read_contamination
from drsft.evaluate.rejudge import rejudge_run
from drsft.evaluate.results import arm_scores
from drsft.evaluate.samples import judgings
from drsft.intake.planning import plan_problems
from drsft.records import Outcome, Problem, Verdict
from drsft.run import layout
from drsft.run.models import evaluated_models
from drsft.run.run import Run
from drsft.stages.pipeline import run_pipeline
from drsft.storage import LocalStore
from drsft.verify.pool import VerifierPool
from tests.support.evaluation import (
    FORMATS,
    LookupPolicy,
    embedded_prompter,
    evaluate_base,
    run_config,
    said,
    write_rows,
)

GSM8K = next(one for one in FORMATS if one.name == "gsm8k")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = write_rows(tmp_path / "rows.jsonl", [GSM8K.row(i) for i in range(4)])
    benchmark = {"name": "gsm8k", "problems": {"path": str(path), "shard_size": 2}}
    return run_config(tmp_path, [benchmark], num_samples=2)


def evaluate(config: RunConfig, letters: Sequence[str], *, model: str = "base") -> LocalStore:
    """R and W for each sample of each problem."""
    prompter = embedded_prompter(config)
    answers = {
        GSM8K.asked(i): [said(prompter, GSM8K.right(i) if one == "R" else GSM8K.wrong(i)) for one in row]
        for i, row in enumerate(letters)
    }
    return evaluate_base(config, LookupPolicy(prompter, answers), model=model)


class StrictVerifier:
    """A later verifier that finds no answer of problem 0 right any more."""

    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        is_right = problem.reference in text and problem.question != GSM8K.asked(0)
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="strict", answer="x")


def test_judging_anew_writes_beside_the_old_and_says_what_changed(config: RunConfig) -> None:
    store = evaluate(config, ["RR", "RW", "WW", "RR"])
    prefix = layout.samples(config.evaluate, "base", config.evaluate.benchmarks[0])
    drawn = {key: store.read(key) for key in store.keys(prefix)}

    (found,) = rejudge_run(Run(store, config), StrictVerifier(), version="v2")
    assert found.changes == {("correct", "wrong"): 2}
    assert (found.num_correct_before, found.num_correct_now, found.num_samples) == (5, 3, 8)
    assert {key: store.read(key) for key in drawn} == drawn
    assert [one.version for one in judgings(store, prefix)] == ["v2"]
    (score,) = arm_scores(Run(store, config))
    assert score.score.avg_at_k.value == 3 / 8

    (again,) = rejudge_run(Run(store, config), StrictVerifier(), version="v2")
    assert not again.is_new
    assert len(judgings(store, prefix)) == 1


def test_the_verifier_that_judged_the_samples_has_nothing_to_do(config: RunConfig) -> None:
    store = evaluate(config, ["RR", "RW", "WW", "RR"])
    (found,) = rejudge_run(Run(store, config), StrictVerifier(), version="v1")
    assert not found.is_new
    assert not found.changes


def test_a_killed_judging_counts_for_nothing_and_goes_on(config: RunConfig) -> None:
    store = evaluate(config, ["RR", "RW", "WW", "RR"])
    prefix = layout.samples(config.evaluate, "base", config.evaluate.benchmarks[0])
    rejudge_run(Run(store, config), StrictVerifier(), version="v2")
    (judging,) = judgings(store, prefix)
    first, last = sorted(store.keys(f"{judging.prefix}/commits"))
    kept = store.read(first)
    store.delete(last)
    (score,) = arm_scores(Run(store, config))
    assert score.score.avg_at_k.value == 5 / 8, "half a judging is none"
    (found,) = rejudge_run(Run(store, config), StrictVerifier(), version="v2")
    assert found.changes == {("correct", "wrong"): 2}
    assert store.read(first) == kept
    assert judgings(store, prefix) == [judging]


def shown(action: object, *arguments: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    action(*arguments, console)  # type: ignore[operator]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_two_models_are_compared_problem_by_problem(config: RunConfig) -> None:
    evaluate(config, ["RR", "RW", "WW", "RR"])
    (trained,) = evaluated_models(config)[1:]
    evaluate(config, ["RR", "RR", "RR", "WW"], model=trained.name)
    text = shown(compare_models, config, "dr+dft/seed-0", "base")
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("gsm8k")]
    # 6/8 against 5/8; problems 1 and 2 are won, 3 is lost.
    assert row[:4] == ["gsm8k", "75.0", "62.5", "+12.5"]
    assert row[-3:] == ["2", "1", "4"]


def test_a_model_of_another_run_is_named_by_where_it_lies(config: RunConfig) -> None:
    store = evaluate(config, ["RR", "RW", "WW", "RR"])
    store.put("config.json", config.model_dump_json().encode())
    other = config.model_copy(update={"seed": 1})
    evaluate(other, ["RR", "RR", "RR", "RR"])
    text = shown(compare_models, other, "base", f"{store.url}:base")
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("gsm8k")]
    assert row[:4] == ["gsm8k", "100.0", "62.5", "+37.5"]


def test_what_cannot_be_compared_is_one_line(config: RunConfig) -> None:
    evaluate(config, ["RR", "RW", "WW", "RR"])
    with pytest.raises(ConfigError, match=r"no model 'drdft'.*it has base, dr\+dft"):
        shown(compare_models, config, "drdft", "base")
    with pytest.raises(InputError, match="drsft evaluate first"):
        shown(compare_models, config, "dr+dft", "base")


def test_the_table_shows_the_score_and_the_overlap(config: RunConfig, tmp_path: Path) -> None:
    store = evaluate(config, ["RR", "RW", "WW", "RR"])
    rows = [
        {"problem": GSM8K.asked(0) + " Say it aloud.", "solution": "s", "answer": "2"},
        {
            "problem": "How many legs have seven ants on a very long green leaf?",
            "solution": "s",
            "answer": "42",
        },
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    plan = plan_problems(
        config.problems, store, layout.PROBLEMS, prompter=embedded_prompter(config), max_model_len=4096
    )
    measure_contamination(Run(store, config), store, plan)
    overlap = read_contamination(Run(store, config), config.evaluate.benchmarks[0])
    assert overlap is not None
    assert (overlap.num_training_problems, overlap.num_overlapping) == (2, 1)
    assert len(overlap.question_ids) == 1
    (one,) = arm_scores(Run(store, config))
    assert one.num_clean == 3
    assert one.clean_score is not None
    assert one.clean_score.avg_at_k.value == 3 / 6, "without the first problem"
    (row,) = [line.split() for line in shown(show_scores, config).splitlines() if "gsm8k" in line]
    assert row[:3] == ["gsm8k", "base", "62.5"]
    assert row[-2:] == ["1", "50.0"]


def groups_of(kind: str, verdicts: Sequence[Verdict]) -> list[int | None]:
    problem = Problem(problem_id="p", question="?", demonstration="", reference="5", kind=kind)
    with VerifierPool(timeout_s=30) as verifier:
        return asyncio.run(answer_groups(problem, verdicts, verifier))


def test_answers_are_grouped_as_the_verifier_finds_them_equal() -> None:
    def wrong(answer: str | None, outcome: Outcome = Outcome.WRONG) -> Verdict:
        return Verdict(outcome=outcome, reason="", answer=answer)

    right = Verdict(outcome=Outcome.CORRECT, reason="", answer="5")
    verdicts = [wrong("\\frac{1}{2}"), right, wrong("0.5"), wrong("7"), wrong("1/2"), right]
    verdicts += [wrong(None, Outcome.NO_ANSWER), wrong(None, Outcome.TRUNCATED), wrong("7.0")]
    assert groups_of("math", verdicts) == [1, 0, 1, 2, 1, 0, None, None, 2]
    assert groups_of("code", verdicts) == [None] * len(verdicts)


def test_the_target_alone_is_evaluated_and_reported_where_nothing_is_trained(config: RunConfig) -> None:
    small = {"train": {"arms": []}, "target": {"model": "embedded", "max_model_len": 512}}
    short = {"self_align": {"max_tokens": 64}, "guided": {"max_tokens": 64}}
    alone = RunConfig.model_validate({**config.model_dump(), **small, "rewrite": short})
    assert [model.name for model in evaluated_models(alone)] == ["base"]
    training_row = {"problem": "1+1?", "solution": "\\boxed{2}", "answer": "2"}
    write_rows(Path(config.problems.path), [training_row])
    store = evaluate(alone, ["RR", "RW", "WW", "WR"])
    store.delete("run.json")  # the pipeline's own stands in for the one of the helper
    console = Console(file=io.StringIO(), width=200)
    run_pipeline(alone, stages=("evaluate", "report"), console=console)
    (row,) = json.loads(store.read("report/summary.json"))
    assert (row["arm"], row["avg_at_k"]) == ("base", 0.5)
