"""A run that an older version made is read, reported and continued.

tests/golden/README.md says how tests/golden/old_run.tar.gz was made.
"""

import asyncio
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from drsft.cli.inspect import Filters, browse
from drsft.config import RunConfig
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import load_prompter
from drsft.records import Completion
from drsft.report.collect import collect
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.shard import ShardRewriter
from drsft.run.rounds import rounds_of, survey_counts
from drsft.run.run import Run, find_run
from drsft.run.summary import ShardSummary, WorkSummary
from drsft.sizing.rates import measure
from drsft.stages.pipeline import run_pipeline
from drsft.storage import LocalStore
from drsft.verify.pool import VerifierPool

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run's folder, at the place that its configuration names when its storage is `tmp_path`."""
    with tarfile.open(GOLDEN / "old_run.tar.gz") as archive:
        members = archive.getmembers()
        config = json.load(archive.extractfile("config.json"))  # type: ignore[arg-type]
        config["rewrite"]["grounding"] = None  # which no version had then
        place = tmp_path / RunConfig.model_validate(config).run_id
        archive.extractall(place, members=members, filter="data")
    return place


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _as_known_then(found: Any, then: Any) -> Any:
    """Returns `found` without the keys that the older version did not have."""
    if isinstance(found, dict) and isinstance(then, dict):
        return {key: _as_known_then(value, then[key]) for key, value in found.items() if key in then}
    if isinstance(found, list) and isinstance(then, list) and len(found) == len(then):
        return [_as_known_then(one, other) for one, other in zip(found, then, strict=True)]
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_key_of_the_folder_is_read_as_what_it_is(folder: Path) -> None:
    run = find_run(str(folder))
    plan = run.plan()
    assert plan is not None
    assert plan.shards.keys() == run.rewritten().keys()
    ids = [record.problem.problem_id for _, records in run.read_records() for record in records]
    assert len(set(ids)) == plan.num_problems
    assert len(run.finished_trainings()) == len(run.trainings()) == 2
    assert all(run.loss_curve(one) and run.probabilities(one) for _, one in run.trainings())
    assert all(len(run.evaluation_work(model)) == 2 for model in run.models())
    assert [time.stage for time in run.history()].count("rewrite") == 1
    first, second = rounds_of(run)
    assert second.has_target
    assert second.run.store.url == str(folder / second.prefix)
    assert survey_counts(second.run).keys() == second.run.rewritten().keys() == first.run.rewritten().keys()
    assert measure(run).stages.keys() == {"rewrite", "gap", "train", "evaluate"}


def test_the_commits_would_be_written_as_they_are(folder: Path) -> None:
    for path in folder.rglob("commits/*.json"):
        stored = json.loads(path.read_text())["summary"]
        stage = path.parents[1].name
        if stage == "rewrite":
            assert json.loads(json.dumps(ShardSummary.from_json(stored).to_json())) == stored
        elif stage != "survey":
            assert WorkSummary.from_json(stored).to_json() == stored


def test_the_report_says_what_the_older_version_said(folder: Path) -> None:
    expected = json.loads((GOLDEN / "old_run_report.json").read_text())
    found = json.loads(json.dumps(_plain(asdict(collect(find_run(str(folder)))))))
    for name, value in expected.items():
        assert _as_known_then(found[name], value) == value, name


def test_its_records_are_browsed(folder: Path) -> None:
    console = Console(file=io.StringIO(), width=500)  # wide enough for any folder's path in a line
    browse(find_run(str(folder)), Filters(), limit=3, show_attempts=True, show_heat=True, console=console)
    assert isinstance(console.file, io.StringIO)
    assert "problems rewritten" in console.file.getvalue()


def test_a_finished_run_is_continued_without_any_work(folder: Path) -> None:
    """With the rounds that need the trained weights, which are not in the archive, left out."""
    config = find_run(str(folder)).config
    alone = config.model_copy(
        update={"storage": str(folder.parent), "rounds": config.rounds.model_copy(update={"count": 1})}
    )
    assert alone.run_id == folder.name, "the same configuration is the same run"
    before = _files(folder)
    run_pipeline(alone, console=Console(file=io.StringIO(), width=120))
    after = _files(folder)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed <= {"config.json", "report/summary.json"}
    assert all(name.startswith(("lease/", "history/", "report/")) for name in after.keys() - before.keys())
    assert after["report/summary.json"] == before["report/summary.json"]


def test_a_missing_shard_is_rewritten_and_the_others_stay(folder: Path) -> None:
    run = find_run(str(folder))
    config, commits = run.config, run.rewritten()
    lost, *kept = commits
    for path in folder.glob(f"rewrite/*/{lost}*"):
        path.unlink()
    before = _files(folder)

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion("no idea")

    async def rewrite_all(verifier: VerifierPool) -> None:
        recipe = Recipe(
            rewrite=config.rewrite,
            prompter=load_prompter(config.target.model, config.target.prompts),
            run_seed=config.seed,
            max_model_len=config.target.max_model_len,
        )
        rewriter = ShardRewriter(LocalStore(folder), recipe, FakePolicy(answer), verifier)
        await asyncio.gather(*(rewriter.rewrite(shard) for shard in commits))

    with VerifierPool.from_config(config.rewrite.verification, num_workers=1) as verifier:
        asyncio.run(rewrite_all(verifier))
    again = Run(LocalStore(folder)).rewritten()
    assert {shard: again[shard] for shard in kept} == {shard: commits[shard] for shard in kept}
    assert again[lost].num_rows == commits[lost].num_rows
    assert {name: data for name, data in _files(folder).items() if name in before} == before
