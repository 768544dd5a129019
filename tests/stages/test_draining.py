"""A process whose stages drain, under real signals; the board alone is not an actor of Ray."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading, time, typer
from types import SimpleNamespace
from rich.console import Console
from drsft.cli.terminal import stoppable
from drsft.stages.draining import draining

asked = threading.Event()

def drain():
    os.write(1, b"drain ")
    asked.set()

board = SimpleNamespace(drain=SimpleNamespace(remote=drain))
try:
    with stoppable(), draining(board, float(sys.argv[1]), Console(stderr=True, width=200)):
        os.write(1, b"ready\\n")
        while not (sys.argv[2] == "obeys" and asked.is_set()):
            time.sleep(0.001)
        raise KeyboardInterrupt("SIGTERM")  # as stop_if_draining does
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


def _ended(grace_s: float, kind: str, *signals: signal.Signals) -> tuple[str, str, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(grace_s), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for one in signals:
        process.send_signal(one)
    said, errors = process.communicate(timeout=120)
    return said, errors.splitlines()[0], process.returncode


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_request_sent_twice_at_once_drains_once_and_ends_with_its_own_code(
    sent: signal.Signals, code: int
) -> None:
    for grace_s, kind in ((600, "obeys"), (0.01, "goes on")):
        said, first_line, ended = _ended(grace_s, kind, sent, sent)
        assert said == "drain "
        assert ended == code
    assert first_line == "draining: finishing running work, 0.01 s at most"
