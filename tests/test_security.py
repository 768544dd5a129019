"""What docs/security.md promises of the sources and the deployment files, held by looking at all of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import audit

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("drsft", "serve", "jobs", "cluster") for path in (ROOT / folder).rglob("*.py")
)
SOURCES = [path for path in SOURCES if "bench" not in path.parts]  # benches read what they wrote themselves
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNPICKLER = (
    ROOT / "drsft/train/checkpoint_reader.py"
)  # has an allow-list; tests/fuzz/test_fuzz_models.py attacks it
RAY_KINDS = ("RayJob", "RayService", "RayCluster")


def _name(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _option(call: ast.Call, name: str) -> Any:
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def _dangers(source: str) -> Iterator[str]:
    """Ways to run what data says, in the source of a module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {one.name}" for one in names if one.name in PICKLES)
            case ast.ImportFrom(module=module) if module in PICKLES:
                yield f"imports {module}"
            case ast.Call() as call:
                yield from _dangers_of_call(call)


def _dangers_of_call(call: ast.Call) -> Iterator[str]:
    name = _name(call.func)
    if name in ("eval", "exec"):
        yield name
    if name == "torch.load" and _option(call, "weights_only") is not True:
        yield "torch.load without weights_only"
    if name in ("np.load", "numpy.load") and _option(call, "allow_pickle") is True:
        yield "numpy.load with pickles"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        yield name
    if _option(call, "shell") is True:
        yield "a shell"
    if _option(call, "trust_remote_code") is True:
        yield "trust_remote_code"
    if re.fullmatch(r"Auto\w+\.from_pretrained", name) and _option(call, "trust_remote_code") is not False:
        yield f"{name} that would ask whether to run the model's code"
    if re.fullmatch(r"AutoModel\w*\.from_pretrained", name) and _option(call, "use_safetensors") is not True:
        yield f"{name} that would read a pickle"
    if name == "Environment" and _option(call, "autoescape") is not True:
        yield "jinja2 without autoescape"


def test_nothing_that_runs_what_data_says() -> None:
    allowed = {
        UNPICKLER: {"imports pickle"},
        ROOT / "drsft/verify/code/jail.py": {"exec"},  # the sandboxed program itself
        # Pipes between a process and the workers that it started itself, as multiprocessing's are.
        ROOT / "drsft/intake/parallel.py": {"imports pickle"},
        ROOT / "drsft/intake/check_worker.py": {"imports pickle"},
    }
    found = {
        f"{path.relative_to(ROOT)}: {danger}"
        for path in SOURCES
        for danger in _dangers(path.read_text())
        if danger not in allowed.get(path, ())
    }
    assert found == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(line, shell=True)",
        "AutoTokenizer.from_pretrained(name)",
        "AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)",
        "AutoConfig.from_pretrained(name, trust_remote_code=True)",
        "Environment(loader=loader)",
        "eval(text)",
    ],
)
def test_the_look_would_find_it(line: str) -> None:
    assert list(_dangers(line))


def _documents(folder: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((ROOT / folder).rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict):
                yield path, document


def test_every_ray_cluster_asks_for_a_token() -> None:
    modes = {}
    for path, document in _documents("k8s/base"):
        if document.get("kind") in RAY_KINDS:
            spec = document["spec"]
            cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
            modes[path.name] = cluster.get("authOptions", {}).get("mode")
    assert modes == dict.fromkeys(["raycluster.yaml", "rayjob.yaml", "rayservice.yaml"], "token")
    for _, document in _documents("k8s"):
        assert "disabled" not in str(document.get("spec", {})).lower() or "RAY_AUTH_MODE" not in str(document)


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_launched_nodes_ask_for_a_token_and_show_no_dashboard(name: str) -> None:
    lines = [line for line in (ROOT / "cluster" / name).read_text().splitlines() if "ray start" in line]
    assert len(lines) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in lines)
    assert ["--dashboard-host=127.0.0.1" in line for line in lines if "--head" in line] == [True]


def test_no_manifest_opens_a_port_to_the_outside() -> None:
    for path, document in _documents("k8s"):
        assert document.get("kind") not in ("Ingress", "Gateway", "HTTPRoute"), path
        if document.get("kind") == "Service":
            assert document["spec"].get("type", "ClusterIP") == "ClusterIP", path
        assert "hostPort" not in str(document), path
        assert "hostNetwork" not in str(document), path


def test_the_audit_finds_what_is_not_excepted() -> None:
    """On a report in pip-audit's form; the exceptions that are written down have reasons."""
    vulns = [
        {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"]},
        {"id": "PYSEC-2", "aliases": ["CVE-2"], "fix_versions": []},
    ]
    report = {
        "dependencies": [{"name": "a", "version": "1.0", "vulns": vulns}, {"name": "b", "skip_reason": "?"}]
    }
    assert list(audit.findings(report, ["CVE-1"])) == ["a 1.0: PYSEC-2, fixed in no version yet"]
    assert audit.exceptions("# PYSEC-0 x\nCVE-1 only with y  # z") == {"CVE-1": "only with y"}
    assert all(len(reason) > 20 for reason in audit.exceptions(audit.EXCEPTIONS.read_text()).values())
    locked = (ROOT / "requirements-cpu.lock").read_text()
    assert len(audit.pins(locked)) == len(
        [line for line in locked.splitlines() if "==" in line and line[0] != "#"]
    )
    assert audit.pins("torch==2.13.0+cpu ; x\nray[serve]==2.60.0") == ["torch==2.13.0", "ray==2.60.0"]


def test_no_secret_stands_in_the_repository() -> None:
    """Keys of AWS and of the hub have a known beginning."""
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{32,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    )
    files = [
        path
        for folder in ("drsft", "serve", "jobs", "cluster", "k8s", "docs")
        for path in (ROOT / folder).rglob("*")
    ]
    texts = [path for path in files if path.suffix in (".py", ".yaml", ".md", ".sh", ".json", ".lock")]
    assert len(texts) > 200
    assert [path for path in texts if secret.search(path.read_text(encoding="utf-8"))] == []
