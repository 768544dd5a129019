"""The tables of a matrix of arms, on samples and gradient norms that are known."""

import json
from pathlib import Path

import pytest

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.results import arm_scores
from drsft.run.models import evaluated_models
from drsft.run.run import Run
from drsft.storage import LocalStore
from tests.studies.experiment import Soundness, contrasts, describe_experiment, soundness, steadiness
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
ANSWERS = {  # by arm, then by seed: R and W for each sample of each problem
    "base": ["RW WW RW"],
    "expert+sft": ["WW WW RW", "RW WW RW"],
    "expert+dft": ["RW WW RW", "RW WW RW"],
    "rewritten+sft": ["RR RW RR", "RR WW RR"],
    "rewritten+dft": ["RR RR RR", "RR RR RW"],
}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = write_rows(tmp_path / "rows.jsonl", [GSM8K.row(i) for i in range(3)])
    plain = run_config(tmp_path, [{"name": "gsm8k", "problems": {"path": str(path)}}], num_samples=2)
    arms = {"data": ["expert", "rewritten"], "objectives": ["sft", "dft"]}
    return RunConfig.model_validate({**plain.model_dump(), "train": {"arms": arms, "seeds": [0, 1]}})


@pytest.fixture
def store(config: RunConfig) -> LocalStore:
    prompter = embedded_prompter(config)
    for model in evaluated_models(config):
        letters = ANSWERS[model.arm][model.seed or 0].split()
        answers = {
            GSM8K.asked(i): [
                said(prompter, GSM8K.right(i) if one == "R" else GSM8K.wrong(i)) for one in letters[i]
            ]
            for i in range(3)
        }
        store = evaluate_base(config, LookupPolicy(prompter, answers), model=model.name)
        norms = [1.0, 2.0, 4.0 if model.seed else 8.0]
        lines = "".join(json.dumps({"step": i, "grad_norm": norm}) + "\n" for i, norm in enumerate(norms))
        store.put(f"train/{model.name}/metrics.jsonl", lines.encode())
    return store


def test_every_claim_is_the_difference_of_two_arms_that_are_equal_otherwise(
    config: RunConfig, store: LocalStore
) -> None:
    found = {
        (one.claim, one.given): one.difference.value
        for one in contrasts(config, list(arm_scores(Run(store, config))))
    }
    assert found == {
        ("rewritten over expert", "sft"): pytest.approx(9 / 12 - 3 / 12),
        ("rewritten over expert", "dft"): pytest.approx(11 / 12 - 4 / 12),
        ("dft over sft", "expert"): pytest.approx(1 / 12),
        ("dft over sft", "rewritten"): pytest.approx(2 / 12),
        ("expert over base", "sft"): pytest.approx(3 / 12 - 2 / 6),
        ("expert over base", "dft"): pytest.approx(0),
        ("rewritten over base", "sft"): pytest.approx(9 / 12 - 2 / 6),
        ("rewritten over base", "dft"): pytest.approx(11 / 12 - 2 / 6),
    }


def test_steadiness_is_over_seeds_and_steps(config: RunConfig, store: LocalStore) -> None:
    (score,) = [one for one in arm_scores(Run(store, config)) if one.arm == "rewritten+sft"]
    found = steadiness(Run(store, config), config.train.arms[2], score)
    assert (found.num_steps, found.gradient_spikes) == (3, pytest.approx((8 / 2 + 4 / 2) / 2))
    assert found.seeds_deviation == pytest.approx((5 / 6 - 4 / 6) / 2**0.5)


def test_the_tables_hold_every_arm_and_what_is_not_there_is_said(
    config: RunConfig, store: LocalStore
) -> None:
    text = describe_experiment(Run(store, config))
    assert "The target as it was: 33.3" in text
    rows = [line for line in text.splitlines() if line.startswith(("| expert |", "| rewritten |"))]
    assert [row.count("(") for row in rows] == [2, 2]
    assert "| rewritten+dft | 3 | 100.0, 83.3 | 11.8 |" in text
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="no evaluated arm"):
        describe_experiment(Run(LocalStore(Path(config.storage) / other.run_id), other))


def test_right_samples_are_counted_by_what_their_equations_show(
    config: RunConfig, store: LocalStore, tmp_path: Path
) -> None:
    run, benchmark = Run(store, config), config.evaluate.benchmarks[0]
    without_equations = Soundness(num_right=11, num_holding=0, num_failing=0)
    assert soundness(run, benchmark, "rewritten+dft") == without_equations
    prompter = embedded_prompter(config)
    beginnings = ("1 + 1 = 2.", "1 + 1 = 3.", "1 + 1 = 2 and 2 + 2 = 5.")
    answers = {
        GSM8K.asked(i): [said(prompter, f"{beginnings[i]} {GSM8K.right(i)}"), said(prompter, GSM8K.wrong(i))]
        for i in range(3)
    }
    other = config.model_copy(update={"storage": str(tmp_path / "other")})
    store = evaluate_base(other, LookupPolicy(prompter, answers), model="base")
    assert soundness(Run(store, other), benchmark, "base") == Soundness(
        num_right=3, num_holding=1, num_failing=2
    )
