"""The wheel and the source archive: what they hold, what they say of themselves, and that they work alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import drsft

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv-tools/bin/python"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SOURCE = shutil.ignore_patterns(
    *(".venv*", ".git", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info"),
    *("runs", "models", "build", "dist"),
)
IN_NO_LOCK = {"vllm", "mlflow-skinny", "wandb"}  # the GPU build, and trackers that no test runs
DATA_SUFFIXES = (".jsonl", ".gz", ".safetensors")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source archive, and the wheel that was made of that."""
    if not TOOLS.exists() or not (TOOLS.parent / "pyproject-build").exists():
        pytest.skip("build is not in .venv-tools: cluster/install_tools.sh")
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    command = [TOOLS, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecat" not in (done.stdout + done.stderr).lower()
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(next(archives.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def _files(folder: Path, *packages: str) -> set[str]:
    found = (path for package in packages for path in (folder / package).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


def _metadata(installed: Path) -> Message:
    [file] = installed.glob("*.dist-info/METADATA")
    return Parser().parsestr(file.read_text())


@pytest.mark.slow
def test_twine_finds_nothing_wrong(archives: Path) -> None:
    assert len(list(archives.iterdir())) == 2
    command = [TOOLS, "-m", "twine", "check", "--strict", *archives.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(installed: Path) -> None:
    expected = _files(ROOT, "drsft", "serve")
    assert _files(installed, "drsft", "serve") == expected
    assert {"drsft/embedded/model/model.safetensors", "serve/page/index.html", "drsft/py.typed"} <= expected
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"drsft", "serve"}


@pytest.mark.slow
def test_the_source_archive_holds_the_jobs_the_licence_and_no_tests(archives: Path) -> None:
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CITATION.cff", "CHANGELOG.md", "jobs/configs/quickstart.yaml"} <= names
    assert not {name for name in names if re.match(r"(tests|models|runs|findings|k8s)/", name)}


@pytest.mark.slow
def test_both_are_of_a_few_megabytes(archives: Path) -> None:
    assert {
        path.name: path.stat().st_size for path in archives.iterdir() if path.stat().st_size > 8 << 20
    } == {}


@pytest.mark.slow
def test_the_wheel_says_what_it_needs(installed: Path) -> None:
    metadata = _metadata(installed)
    assert (metadata["Name"], metadata["Version"]) == ("drsft", drsft.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.13"}
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_repository(installed: Path, tmp_path: Path) -> None:
    code = """
import json, drsft, serve, drsft.cli
from importlib.resources import files
print(json.dumps([drsft.__file__, serve.__file__, drsft.verify("1/2", "It is 0.5.").outcome,
    len(drsft.gap([{"problem": "What is 3 + 4?", "solution": "The answer is 7."}], "embedded").heat_maps)]))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **run)  # type: ignore[call-overload]
    drsft_at, serve_at, outcome, num_shown = json.loads(done.stdout.splitlines()[-1])
    assert Path(drsft_at).is_relative_to(installed)
    assert Path(serve_at).is_relative_to(installed)
    assert (outcome, num_shown) == ("correct", 1)
    told = subprocess.run([sys.executable, "-m", "drsft.cli", "--version"], **run)  # type: ignore[call-overload]
    assert told.stdout.strip() == drsft.__version__


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_every_module_compiles(version: str, installed: Path) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    command = [
        python,
        "-W",
        "error",
        "-m",
        "compileall",
        "-q",
        "-f",
        installed / "drsft",
        installed / "serve",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_classifiers_name_the_versions_that_are_allowed() -> None:
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    assert named == ["3.11", "3.12"]
    assert PROJECT["requires-python"] == ">=3.11,<3.13"


def test_the_lock_holds_what_every_extra_needs() -> None:
    pins = (line.split("==") for line in (ROOT / "requirements-cpu.lock").read_text().splitlines())
    locked = {canonicalize_name(name): version for name, version in pins}
    wanted = [
        *PROJECT["dependencies"],
        *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
    ]
    requirements = [one for one in map(Requirement, wanted) if one.name not in IN_NO_LOCK]
    assert [str(one) for one in requirements if canonicalize_name(one.name) not in locked] == []
    unmet = [
        str(one)
        for one in requirements
        if not one.specifier.contains(locked[canonicalize_name(one.name)], prereleases=True)
    ]
    assert unmet == []


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (drsft.__version__, PROJECT["license"])


@pytest.mark.parametrize("folder", ["drsft/embedded", "tests/golden", "tests/studies"])
def test_every_datum_has_a_licence(folder: str) -> None:
    rows = [
        line
        for line in (ROOT / folder / "README.md").read_text().splitlines()
        if re.search(r"Apache-2\.0|MIT|CC", line)
    ]
    data = [path for path in (ROOT / folder).rglob("*") if path.name.endswith(DATA_SUFFIXES)]
    assert data
    unnamed = {
        path.name
        for path in data
        if not any(path.name in row or f"`{path.parent.name}/`" in row for row in rows)
    }
    assert unnamed == set()


def test_no_datum_is_outside_these_folders() -> None:
    folders = ("drsft/embedded", "tests/golden", "tests/studies")
    places = (ROOT / top for top in ("drsft", "serve", "jobs", "tests"))
    found = (path.relative_to(ROOT) for place in places for path in place.rglob("*") if path.is_file())
    loose = [str(one) for one in found if one.name.endswith((*DATA_SUFFIXES, ".parquet", ".gguf"))]
    assert [one for one in loose if not one.startswith(folders)] == []
