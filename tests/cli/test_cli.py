"""A user's mistake is one line on stderr and exit code 2, whatever part of drsft finds it."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drsft import __version__, cli
from drsft.config.configfile import load_config
from drsft.errors import InputError, ModelError
from drsft.policy.prompts import model_location
from drsft.run.run import run_of
from drsft.stages import preparing

QUICKSTART = str(Path(__file__).parents[2] / "jobs/configs/quickstart.yaml")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["drsft", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def one_line(text: str) -> str:
    """The last line of what was printed, which must be the error."""
    *_, last = text.strip().splitlines()
    assert last.startswith("error: ")
    assert "Traceback" not in text
    return last


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.learning_rat=1", ["train.learning_rat", "unknown key"]),
        ("target.model=/no/such/model", ["/no/such/model", "no such folder"]),
        ("problems.path=nothing.jsonl", ["nothing.jsonl", "no such file"]),
        ("problems.columns={question: q}", ["train.jsonl.gz line 1", "'q'", "columns.question"]),
        ("storage=ftp://x", ["ftp://x", "s3://bucket/prefix"]),
        ("target.max_model_len=2000", ["target.max_model_len", "2000", "1024"]),
    ],
)
def test_mistakes_end_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    override: str,
    words: list[str],
) -> None:
    arguments = ["run", QUICKSTART, f"storage={tmp_path / 'runs'}", override]
    assert run(monkeypatch, *arguments) == 2
    line = one_line(capsys.readouterr().err)
    assert all(word in line for word in words)


def test_an_unreachable_object_store_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert run(monkeypatch, "run", QUICKSTART, "storage=s3://bucket/runs") == 2
    captured = capsys.readouterr()
    assert "127.0.0.1:9" in one_line(captured.err)
    assert "canary-secret" not in captured.err + captured.out


def test_a_port_in_use_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["run", QUICKSTART, f"storage={tmp_path}", f"resources.dashboard_port={port}"]
        assert run(monkeypatch, *arguments) == 2
    line = one_line(capsys.readouterr().err)
    assert f"resources.dashboard_port={port}" in line
    assert "in use" in line


def test_a_report_of_a_run_that_never_was_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "report", QUICKSTART, f"storage={tmp_path}") == 2
    assert "drsft run" in one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_a_mistake_in_a_configuration_is_told_before_ray_and_torch_are_imported() -> None:
    code = (
        "import sys; from drsft.cli import main\n"
        f"sys.argv = ['drsft', 'run', {QUICKSTART!r}, 'train.learning_rat=1']\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, *sorted({'ray', 'torch', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "train.learning_rat: unknown key" in done.stderr
    assert done.stdout == "2\n"


def test_a_runs_driver_and_its_readers_load_no_torch() -> None:
    """torch, transformers and what they load take seconds; actors and training workers need them."""
    code = (
        "import sys, drsft.stages.pipeline, drsft.report.html.page, drsft.cli.inspect, drsft.cli.plan\n"
        "print(*sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("command", ["run", "rewrite", "gap", "train", "evaluate", "report"])
def test_every_command_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "drsft.cli", command, "--help"], capture_output=True, text=True, check=True
    )
    assert "CONFIG" in done.stdout


@pytest.mark.ray
@pytest.mark.parametrize(
    ("override", "key"),
    [("resources.gpus_per_actor=1", "gpus_per_actor"), ("resources.train_workers=4096", "train_workers")],
)
def test_resources_that_the_machine_lacks_are_one_line_and_no_wait(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    override: str,
    key: str,
) -> None:
    arguments = ["run", QUICKSTART, f"storage={tmp_path}", "problems.limit=4", override]
    assert run(monkeypatch, *arguments) == 2
    line = one_line(capfd.readouterr().err)
    assert key in line
    assert "this machine has" in line


def test_a_run_does_not_go_on_with_other_demonstrations_or_another_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(model_location("embedded"), model)
    data = tmp_path / "p.jsonl"
    row = {"problem": "1+1?", "solution": "it is 2", "answer": "2"}
    data.write_text(json.dumps(row))
    config = load_config(
        Path(QUICKSTART), [f"target.model={model}", f"problems.path={data}", f"storage={tmp_path / 'runs'}"]
    )
    run_folder = run_of(config)
    preparing.write_manifest(run_folder)
    preparing.plan_run(run_folder).finish()
    preparing.plan_run(run_folder).finish()
    data.write_text(json.dumps({**row, "solution": "two"}))
    with pytest.raises(InputError, match="no longer holds the problems"):
        preparing.plan_run(run_folder).finish()
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(ModelError, match="have changed since this run was started"):
        preparing.write_manifest(run_folder)


@pytest.mark.parametrize("asked", ["--version", "version"])
def test_the_version_is_printed_either_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    assert run(monkeypatch, asked) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", ["config", "version"])
def test_a_full_disk_under_standard_output_is_one_line(command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "drsft.cli", command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: cannot write standard output")
    assert "No space left on device; free space" in line


def test_a_plan_without_a_run_names_the_small_run_that_gives_it_rates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "plan", QUICKSTART, f"storage={tmp_path}") == 2
    line = one_line(capsys.readouterr().err)
    assert f"drsft run {QUICKSTART} storage={tmp_path} problems.limit=200 name=trial" in line
    trial = load_config(Path(QUICKSTART), [f"storage={tmp_path}", "problems.limit=200", "name=trial"])
    assert line.endswith(f"--calibrate {tmp_path}/{trial.run_id}")
