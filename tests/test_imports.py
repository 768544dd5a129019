"""DESIGN decision: the core knows no Ray, vLLM or S3, and imports run one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {  # package -> what of drsft it may import
    "records": set(),
    "errors": set(),
    "config": set(),
    "logs": set(),
    "tracing": {"logs"},
    "doctor": {"records", "errors", "config", "policy", "objectives", "rewrite", "storage", "train"},
    "clean": {"records", "errors", "config"},
    "objectives": {"records", "errors", "config"},
    "policy": {"records", "errors", "config", "storage"},
    "verify": {"records", "errors", "config"},
    "rewrite": {"records", "errors", "config", "policy", "verify", "tracing"},
    "gap": {"records", "errors", "config", "objectives", "evaluate", "policy", "rows"},
    "train": {
        "__version__",
        "records",
        "errors",
        "config",
        "objectives",
        "storage",
        "stored",
        "policy",
        "shards",
        "tables",
    },
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _violations(files: Iterator[Path], package: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in _imports(path)
        if name.split(".")[0] == package and not str(path.relative_to(ROOT)).startswith(allowed)
    ]


def _sources() -> Iterator[Path]:
    for folder in ("drsft", "serve", "jobs"):
        yield from (ROOT / folder).rglob("*.py")


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("ray", ("drsft/stages/", "serve/", "jobs/")),
        ("vllm", ("drsft/policy/",)),
        ("boto3", ("drsft/storage/",)),
        ("botocore", ("drsft/storage/",)),
        ("opentelemetry", ("drsft/stages/",)),
    ],
)
def test_foreign_packages_stay_behind_their_seams(package: str, allowed: tuple[str, ...]) -> None:
    assert _violations(_sources(), package, allowed) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    assert _violations(iter([ROOT / "drsft/stages/cluster.py"]), "ray", ("serve/",))


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    place = ROOT / "drsft" / layer
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    used = {name.split(".")[1] for path in files for name in _imports(path) if name.startswith("drsft.")}
    assert used - {layer} <= LAYERS[layer]
