"""A run's keys are spelt in drsft/run/layout.py and nowhere else; their names are those of every version."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from drsft.config import RunConfig
from drsft.run import layout
from drsft.run.layout import ShardFolder

ROOT = Path(__file__).parents[2]
LAYOUT = ROOT / "drsft/run/layout.py"
# Bytes that are in no run's folder: a store's own, and what the doctor writes to see whether it can.
OTHER_FILES = ("drsft/storage", "drsft/doctor", "drsft/bench", "drsft/embedded")
STORE_METHODS = {"create", "put", "read", "open", "exists", "keys", "delete", "within"}
STORE_FUNCTIONS = {"ShardSet", "read_stored", "read_table", "download_folder", "upload_folder"}
FOLDERS = "problems|rewrite|survey|gap|train|benchmarks|evaluate|report|history|lease"
KEY = re.compile(
    rf"^(?:{FOLDERS})/\S|^(?:round|packed|scores)-$"
    r"|/(?:data|commits|shards|verdicts|checkpoints|export)(?:/|$)"
    r"|(?:^|/)(?:run|plan|config|done|commit|probabilities|quarantine|metrics|contamination)[^ ]*\.jsonl?$"
    r"|\.parquet$|(?:start|snapshot)-logprobs|^(?:tensorboard|checkpoints|adapter|survey)$"
)
# Words of the same spelling that name something else.
OTHER_WORDS = {
    "drsft/process/metric_names.py": {"survey"},
    "drsft/stages/survey.py": {"survey"},  # the stage
    "drsft/policy/provenance.py": {"config.json"},  # of a model's folder
    "drsft/config/training.py": {"tensorboard", "packed-"},  # the tracker; a name that no arm may have
    "drsft/train/tracking.py": {"tensorboard"},
    "drsft/stages/rewriting.py": {"round-"},  # a seed's name
    "drsft/report/charts/files.py": {"scores-"},  # a plot's name
    "drsft/intake/formats/choice.py": {".parquet"},  # a data set's suffix
}


def _product() -> Iterator[Path]:
    for folder in ("drsft", "serve", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != LAYOUT and not str(path.relative_to(ROOT)).startswith(OTHER_FILES):
                yield path


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String constants, those within f-strings included, but no docstrings and no texts for people."""
    texts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.lineno, node.value


def _spelt_keys(path: Path, source: str) -> list[str]:
    known = OTHER_WORDS.get(str(path.relative_to(ROOT)), set())
    return [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for line, text in _strings(ast.parse(source))
        if " " not in text and text not in known and KEY.search(text)
    ]


def _literal_arguments(path: Path, source: str) -> list[str]:
    """Calls that hand a store a key which is spelt out or put together on the spot."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, arguments = node.func, node.args
        if (
            isinstance(called, ast.Attribute)
            and called.attr in STORE_METHODS
            and "store" in ast.unparse(called.value)
        ):
            key = arguments[0]
        elif isinstance(called, ast.Name) and called.id in STORE_FUNCTIONS and len(arguments) > 1:
            key = arguments[1]
        else:
            continue
        is_spelt = isinstance(key, ast.JoinedStr) or (isinstance(key, ast.Constant) and key.value != "")
        if is_spelt:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_no_other_module_spells_a_key() -> None:
    assert [line for path in _product() for line in _spelt_keys(path, path.read_text())] == []


def test_no_store_is_handed_a_key_that_is_put_together_on_the_spot() -> None:
    assert [line for path in _product() for line in _literal_arguments(path, path.read_text())] == []


@pytest.mark.parametrize(
    "line",
    [
        'store.read("run.json")',
        'key = f"train/{name}/done.json"',
        'key = f"{prefix}/verdicts/{name}"',
        'shards = ShardSet(store, "rewrite")',
        'self._store.put(f"{prefix}x", b"")',
        'name = f"packed-{data}"',
    ],
)
def test_the_checks_can_fail(line: str) -> None:
    path = ROOT / "drsft/stages/pipeline.py"
    assert _spelt_keys(path, line) or _literal_arguments(path, line)


CONFIG = RunConfig.model_validate(
    {
        "name": "r",
        "problems": {"path": "p.jsonl"},
        "target": {"model": "m"},
        "train": {"seeds": [7], "arms": [{"name": "sft", "data": "expert", "objective": {"kind": "sft"}}]},
        "evaluate": {"benchmarks": [{"name": "mine", "problems": {"path": "b.jsonl"}}]},
    }
)


def test_keys_are_those_of_the_first_versions() -> None:
    """Fingerprints are left out here: tests/golden holds a run with all of them."""
    train, evaluate = CONFIG.train, CONFIG.evaluate
    (arm,), (benchmark,) = train.arms, evaluate.benchmarks
    training, packed = layout.training(train, arm, 7), layout.packed_rows(train, "expert")
    keys = {
        layout.PROBLEMS.plan: "problems/plan.json",
        layout.PROBLEMS.quarantine: "problems/quarantine.jsonl",
        layout.PROBLEMS.shard("00000"): "problems/shards/00000.parquet",
        layout.lease(3, "beat"): "lease/000003.beat",
        layout.history(3, "train"): "history/000003-train.json",
        layout.GAP.report: "gap/report.json",
        layout.GAP.scores(["a"]): "gap/scores-*",
        layout.gap_of("mine", "ab").page: "gap/mine-ab/index.html",
        layout.gap_of("mine", "ab").texts: "gap/mine-ab/texts",
        training.done: "train/sft-*/seed-7/done.json",
        training.metrics: "train/sft-*/seed-7/metrics.jsonl",
        training.probabilities: "train/sft-*/seed-7/probabilities.json",
        training.export: "train/sft-*/seed-7/export",
        training.checkpoints.commit(100): "train/sft-*/seed-7/checkpoints/step-000100/commit.json",
        layout.TRAINING.done: "done.json",
        packed.commit: "train/packed-expert-*.json",
        packed.learnt: "train/packed-expert-*.parquet",
        packed.held_out: "train/packed-expert-*-held-out.parquet",
        packed.filter_counts: "train/packed-expert-*.filter.json",
        layout.benchmark(benchmark).plan: "benchmarks/mine-*/plan.json",
        layout.contamination(evaluate, benchmark): "benchmarks/mine-*/contamination-*.json",
        layout.samples(evaluate, training.model_name, benchmark): "evaluate/sft-*/seed-7/mine-*",
        layout.verdicts("evaluate/base/mine", 2, "0.1.0"): "evaluate/base/mine/verdicts/2-0.1.0",
        layout.REPORT.page: "report/index.html",
        layout.REPORT.against("other-1"): "report/against-other-1.html",
        layout.export("pairs"): "pairs.parquet",
        layout.round_prefix(2, "ab12cd34"): "round-2-ab12cd34",
    }
    for key, pattern in keys.items():
        assert re.fullmatch(pattern.replace(".", r"\.").replace("*", "[0-9a-f]{8}"), key)


def test_a_shards_objects_are_told_by_their_keys() -> None:
    folder = ShardFolder("round-2-ab12cd34/rewrite")
    assert folder.shard_of(folder.commit("00007")) == "00007"
    assert ShardFolder.owner_of(folder.data("00007", b"bytes")) == (folder, "00007")
    assert folder.data("00007", b"bytes") != folder.data("00007", b"others")
    assert ShardFolder.owner_of(folder.commit("00007")) is None
    assert ShardFolder.owner_of(layout.PROBLEMS.shard("00007")) is None
