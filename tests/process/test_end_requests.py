"""Signals that ask a real process to end, in every order and at many distances."""

import itertools
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, sys, threading, time
from drsft.process import end_requests
from drsft.process.end_requests import END_REQUESTS

end_requests.SAME_REQUEST_S = float(sys.argv[1])
drained = threading.Event()
sent = threading.Event()  # all signals
threading.Thread(target=lambda: (sys.stdin.read(), sent.set())).start()

def drain():
    os.write(1, b"drain\\n")
    threading.Thread(target=drained.set).start()

def work(until):
    while not (until and drained.is_set() and sent.is_set()):
        time.sleep(0.001)

code = 0
with END_REQUESTS.installed():
    try:
        with END_REQUESTS.draining(drain):
            os.write(1, b"ready\\n")
            work(sys.argv[2] == "obeys")
        os.write(1, b"done\\n")
    except KeyboardInterrupt:
        os.write(1, b"interrupted\\n")
    finally:
        os.write(1, b"cleaning\\n")
        time.sleep(0.02)
        os.write(1, b"cleaned\\n")
sent.wait()
os._exit(128 + END_REQUESTS.first)
"""
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def _listen() -> None:
    """A process that this one started in the background, or under nohup, would ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _run(
    signals: list[tuple[float, signal.Signals]], *, same_s: float, kind: str, drains_first: bool = False
) -> tuple[list[str], int]:
    """What the process says, and its exit code; each signal is sent so many seconds after the last.

    With `drains_first` it gets a SIGTERM before, and the others once it has heard that.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(same_s), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_listen,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    said = []
    if drains_first:
        process.send_signal(signal.SIGTERM)
        said = process.stdout.readline().split()
    for after_s, one in signals:
        until_s = time.perf_counter() + after_s
        while time.perf_counter() < until_s:
            pass
        process.send_signal(one)
    said += process.communicate()[0].split()
    return said, process.wait(timeout=60)


@pytest.mark.parametrize("gap_s", [0.0, 0.00005, 0.0002, 0.001, 0.02])
def test_requests_close_together_drain_once_and_let_the_work_end(gap_s: float) -> None:
    for first, second in itertools.product((signal.SIGTERM, signal.SIGHUP), repeat=2):
        said, code = _run([(0, first), (gap_s, second), (gap_s, first)], same_s=60, kind="obeys")
        assert said == ["drain", "done", "cleaning", "cleaned"]
        assert code in (128 + first, 128 + second), (
            "signals that wait together are heard in their numbers' order"
        )


@pytest.mark.parametrize("gap_s", [0.0001, 0.01, 0.1])
def test_a_later_request_interrupts_once_and_leaves_the_cleaning_alone(gap_s: float) -> None:
    for order in itertools.permutations(ENDS):
        signals = [
            (0.0, signal.SIGTERM),
            (0.05, order[0]),
            *((gap_s, one) for one in order),
            (gap_s, order[0]),
        ]
        said, code = _run(signals, same_s=0.0, kind="goes on")
        assert said == ["drain", "interrupted", "cleaning", "cleaned"]
        assert code == 128 + signal.SIGTERM


def test_ctrl_c_interrupts_without_a_drain_and_in_the_midst_of_one() -> None:
    said, code = _run([(0, signal.SIGINT), (0.001, signal.SIGINT)], same_s=60, kind="goes on")
    assert (said, code) == (["interrupted", "cleaning", "cleaned"], 130)
    said, code = _run([(0, signal.SIGINT)], same_s=60, kind="goes on", drains_first=True)
    assert (said, code) == (["drain", "interrupted", "cleaning", "cleaned"], 143)


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    code = (
        "import signal; from drsft.process.end_requests import END_REQUESTS;"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with END_REQUESTS.installed(): signal.raise_signal(signal.SIGHUP); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
