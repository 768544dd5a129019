"""The survey between rounds, with real weights: what the new target finds less likely is done again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from drsft.config import RunConfig
from drsft.policy.prompts import load_prompter, model_location
from drsft.records import Record, Source
from drsft.run import layout
from drsft.run.rounds import survey_counts
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.tables import records_to_table
from drsft.stages.survey import ShardSurveyor
from drsft.storage import LocalStore
from drsft.train.model import load_model
from tests.run.test_records_documented import record


def config(model: str, tolerance: float) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "t",
            "problems": {"path": "p"},
            "target": {"model": model, "dtype": "float32", "max_model_len": 256},
            "rewrite": {"self_align": {"max_tokens": 64}, "guided": {"max_tokens": 64}},
            "rounds": {"count": 2, "tolerance": tolerance},
        }
    )


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded model with other weights, as training leaves it."""
    model = load_model(model_location("embedded"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("changed")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_location("embedded")).save_pretrained(folder)
    return str(folder)


def written_alone(name: str, text: str, source: Source = Source.OWN) -> Record:
    base = record()
    prompter = load_prompter("embedded", config("embedded", 0).target.prompts)
    problem = replace(base.problem, problem_id=name, question="Ann has 3 cups, gets 4. How many?")
    return replace(
        base,
        problem=problem,
        source=source,
        prompt_ids=prompter.plain(problem),
        completion_ids=prompter.completion(text),
    )


def mean_logprob(model: str, one: Record) -> float:
    ids = torch.tensor([[*one.prompt_ids, *one.completion_ids]])
    with torch.no_grad():
        logits_TV = load_model(model).double()(ids).logits[0, len(one.prompt_ids) - 1 : -1]
    chosen = torch.tensor(one.completion_ids)[:, None]
    return float(logits_TV.log_softmax(-1).gather(1, chosen).mean())


def test_the_survey_compares_both_targets_on_the_plain_prompt(tmp_path: Path, changed: str) -> None:
    records = [
        written_alone("a", r"3 + 4 = 7. The answer is \boxed{7}."),
        written_alone("b", "Well, seven cups, obviously."),
        written_alone("c", "guided", Source.REWRITTEN),
    ]
    before, store = LocalStore(tmp_path / "run"), LocalStore(tmp_path / "run/round-2")
    ShardSet(before, layout.RECORDS).commit("0", records_to_table(records))
    embedded = model_location("embedded")
    drops = {
        one.problem.problem_id: mean_logprob(embedded, one) - mean_logprob(changed, one) for one in records
    }
    smaller, larger = sorted((drops["a"], drops["b"]))
    tolerance = max((smaller + larger) / 2, 0.0)
    second, first = config(changed, tolerance), config("embedded", tolerance)
    surveyor = ShardSurveyor(second.model_dump_json(), first.model_dump_json(), store.url, before.url, None)
    surveyor({"shard": np.array(["0"])})

    rows = {row["problem_id"]: row for row in ShardSet(store, layout.SURVEY).table("0").to_pylist()}
    for name in ("a", "b"):
        found = rows[name]["logprob_before"] - rows[name]["logprob_now"]
        assert found == pytest.approx(drops[name], abs=1e-4)
        assert rows[name]["standing"] == ("gap grew" if drops[name] > tolerance else "carried")
    assert rows["c"] == {
        "problem_id": "c", "standing": "not solved alone", "logprob_before": None, "logprob_now": None
    }  # fmt: skip
    assert survey_counts(Run(store))["0"] == {"gap grew": 1, "carried": 1, "not solved alone": 1}
