"""The core knows no Ray, vLLM or S3, every module has its package, and imports run one way."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOOSE = {"__init__", "errors", "records"}  # the only modules of drsft/ outside a package
LAYERS = {  # package or loose module -> what of drsft it may import
    "records": set(),
    "errors": set(),
    "config": {"errors"},
    "storage": {"errors"},
    "process": set(),
    "embedded": set(),
    "policy": {"records", "errors", "config", "storage", "process"},
    "verify": {"records", "errors", "config"},
    "objectives": {"errors", "config"},
    "run": {"records", "errors", "config", "storage", "process"},
    "intake": {"records", "errors", "config", "storage", "policy", "verify", "run"},
    "rewrite": {"records", "errors", "config", "storage", "process", "policy", "verify", "run", "intake"},
    "evaluate": {"records", "errors", "config", "storage", "policy", "verify", "run", "intake"},
    "gap": {"records", "errors", "config", "storage", "objectives", "policy", "run", "intake", "evaluate"},
    "train": {"records", "errors", "config", "storage", "objectives", "policy", "run"},
    "sizing": {
        *("errors", "config", "storage", "objectives", "policy", "run", "intake"),
        *("gap", "train", "evaluate"),
    },
    "setup": {"records", "errors", "config", "policy", "verify", "intake"},
    "report": {
        *("records", "errors", "config", "storage", "policy", "run", "intake"),
        *("rewrite", "gap", "evaluate"),
    },
    "doctor": {
        *("records", "errors", "config", "policy", "objectives", "rewrite", "storage", "train"),
        *("run", "verify", "intake", "gap", "api"),
    },
    "stages": {
        *("records", "errors", "config", "storage", "process", "policy", "verify", "run", "intake"),
        *("rewrite", "gap", "train", "evaluate", "report"),
    },
    "serve": {
        *(
            "records",
            "errors",
            "config",
            "process",
            "policy",
            "verify",
            "intake",
            "rewrite",
            "gap",
            "train",
            "stages",
        ),
    },
    "api": {
        *("records", "errors", "config", "policy", "verify", "run", "intake"),
        *("rewrite", "objectives", "gap", "train"),
    },
    "bench": {
        *("records", "errors", "config", "storage", "process", "policy", "verify", "run", "intake"),
        *("rewrite", "objectives", "gap", "train", "evaluate", "report", "stages", "serve", "api"),
    },
    "cli": {
        *("records", "errors", "config", "storage", "process", "policy", "verify", "run", "intake"),
        *("rewrite", "gap", "evaluate", "sizing", "setup", "report", "doctor", "stages", "serve", "bench"),
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
        ("ray", ("drsft/stages/", "drsft/bench/", "serve/", "jobs/")),
        ("vllm", ("drsft/policy/", "drsft/bench/")),
        ("boto3", ("drsft/storage/",)),
        ("botocore", ("drsft/storage/",)),
        ("opentelemetry", ("drsft/stages/",)),
    ],
)
def test_foreign_packages_stay_behind_their_seams(package: str, allowed: tuple[str, ...]) -> None:
    assert _violations(_sources(), package, allowed) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    assert _violations(iter([ROOT / "drsft/stages/cluster.py"]), "ray", ("serve/",))


def _files_of(layer: str) -> list[Path]:
    if layer == "serve":
        return list((ROOT / "serve").rglob("*.py"))
    place = ROOT / "drsft" / layer
    return list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def _layer_of(name: str) -> str | None:
    top, *inner = name.split(".")
    if top == "serve":
        return "serve"
    return inner[0] if top == "drsft" and inner and inner[0] != "__version__" else None


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    used = {_layer_of(name) for path in _files_of(layer) for name in _imports(path)}
    assert used - {layer, None} <= LAYERS[layer]


def test_the_layers_are_in_an_order() -> None:
    assert set(TopologicalSorter(LAYERS).static_order()) == set(LAYERS)


def test_every_module_is_in_a_package_with_a_rule() -> None:
    loose = {path.stem for path in (ROOT / "drsft").glob("*.py")}
    packages = {path.parent.name for path in (ROOT / "drsft").glob("*/__init__.py")}
    assert loose == LOOSE
    assert packages | (LOOSE - {"__init__"}) | {"serve"} == set(LAYERS)


def test_a_file_name_is_used_at_most_three_times() -> None:
    names = [path.stem for path in _sources() if path.stem not in ("__init__", "cli")]
    assert {name for name in names if names.count(name) > 3} == set()


def _module_file(name: str) -> Path | None:
    place = ROOT / Path(*name.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in files if path.is_file()), None)


def _reached_from(layer: str) -> set[str]:
    """Modules of drsft that importing a layer may load, through however many others."""
    reached: set[str] = set()
    files = _files_of(layer)
    while files:
        for name in _imports(files.pop()):
            path = _module_file(name) if name.startswith("drsft.") else None
            if path is not None and name not in reached:
                reached.add(name)
                files.append(path)
    return reached


@pytest.mark.parametrize("layer", ["rewrite", "evaluate", "verify", "run", "intake"])
def test_the_core_reaches_no_engine_even_indirectly(layer: str) -> None:
    engines = ("drsft.policy.vllm", "drsft.policy.engines", "drsft.policy.hinted.vllm_engine")
    assert {name for name in _reached_from(layer) if name.startswith(engines)} == set()


def test_engines_are_found_where_they_are_reached() -> None:
    assert "drsft.policy.vllm.engine" in _reached_from("stages")
