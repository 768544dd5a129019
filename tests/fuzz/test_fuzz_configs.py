"""Configurations and overrides, through the command line: exit code 2, clear lines, nothing written."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from drsft import cli
from drsft.config.configfile import load_config, load_settings
from drsft.config.yamlfile import NotYamlError, read_yaml
from drsft.errors import ConfigError
from serve.limits.keys import read_keys
from serve.settings import Access, ServeConfig
from tests.fuzz.doors import TEXT, VALUES, assert_clear, changed, damaged, folder, knock

ROOT = Path(__file__).parents[2]
QUICKSTART = yaml.safe_load((ROOT / "jobs/configs/quickstart.yaml").read_text())
SERVE = yaml.safe_load((ROOT / "serve/local.yaml").read_text())
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k0: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a], k{n}: 1}}\n" for n in range(5000))


@given(tree=changed(QUICKSTART))
def test_changed_configurations(tree: object) -> None:
    with folder() as here:
        path = here / "c.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="surrogatepass")
        knock("configurations", lambda: load_config(path))


@given(tree=changed(SERVE))
def test_changed_configurations_of_the_service(tree: object) -> None:
    with folder() as here:
        path = here / "c.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="surrogatepass")
        knock("configurations of the service", lambda: load_settings(ServeConfig, path))


@given(data=damaged((ROOT / "jobs/configs/quickstart.yaml").read_bytes()))
def test_damaged_configurations(data: bytes) -> None:
    with folder() as here:
        (here / "c.yaml").write_bytes(data)
        knock("damaged configurations", lambda: load_config(here / "c.yaml"))


@given(
    key=st.sampled_from(["name", "train.seeds", "train.arms.0.name", "problems.path", "storage"]) | TEXT,
    value=TEXT,
)
def test_overrides(key: str, value: str) -> None:
    knock("overrides", lambda: load_config(ROOT / "jobs/configs/quickstart.yaml", [f"{key}={value}"]))


@given(value=VALUES, key=st.sampled_from(["storage", "name", "problems", "target"]))
def test_the_command_ends_with_2_and_writes_nothing(value: object, key: str) -> None:
    with folder() as here:
        (here / "c.yaml").write_text(
            yaml.safe_dump({**QUICKSTART, "storage": str(here / "runs"), key: value})
        )
        said, told = io.StringIO(), io.StringIO()
        command = ["drsft", "report", str(here / "c.yaml")]
        with patch.object(sys, "argv", command), redirect_stderr(said), redirect_stdout(told):
            assert isinstance(knock("drsft report CONFIG", cli.main), SystemExit)
        assert said.getvalue().startswith("error: ")
        assert_clear(said.getvalue().removesuffix("\n"))
        assert [path.name for path in here.iterdir()] == ["c.yaml"]


@given(data=damaged(b"alice sha256:" + b"ab" * 32 + b" requests_per_minute=3\n"))
def test_key_files(data: bytes) -> None:
    with folder() as here:
        (here / "keys").write_bytes(data)
        access = Access(keys_file=str(here / "keys"))
        knock("key files of the service", lambda: read_keys(here / "keys", access))


@given(text=st.text(max_size=200) | st.builds(yaml.safe_dump, VALUES))
def test_yaml_is_read_or_refused(text: str) -> None:
    try:
        read_yaml(text)
    except NotYamlError as error:
        assert_clear(str(ConfigError(str(error))))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 20,000 values"),
        (MERGES, "values"),
        ("a: &a [*a]", "nested too deeply"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("name: x\nname: y", "line 2: the key 'name' occurs twice"),
        ("train: {seeds: [0], seeds: [1]}", "twice"),
        ("a: 2026-99-99", "month"),
        ("a: " + "1" * 5000, "4300 digits"),
        ("!!bool maybe", "cannot be read"),
        ("!!timestamp x", "cannot be read"),
        ("!!python/object/apply:os.system [touch taken]", "python/object"),
        ("a: \x1b", "not allowed"),
    ],
)
def test_yaml_that_is_more_than_values_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(tmp_path / "c.yaml")
    assert_clear(str(caught.value))


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="256 KiB"):
        load_config(Path("/dev/zero"))


def test_an_alias_may_stand_for_what_is_written_once() -> None:
    assert read_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, x: 2}") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 2},
    }
