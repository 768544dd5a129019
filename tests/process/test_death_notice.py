"""Who is killed is spoken for; who ends in order, or by an error, speaks alone."""

import json
import os
import subprocess
import sys

import pytest

from drsft.process.death_notice import LINE

PROGRAM = """
import os, signal, sys
from drsft.process.death_notice import notice_if_killed
with notice_if_killed():
    {end}
"""
ENDS = {
    "in order": "pass",
    "by an error": "raise SystemExit(2)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "from C": "os._exit(1)",
    "by Ctrl-C of its terminal": "os.killpg(os.getpgrp(), signal.SIGINT)",
    "its group killed": "os.killpg(os.getpgrp(), signal.SIGKILL)",
}


def end_of(end: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=ENDS[end])],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
        check=False,
    )
    return done.stderr  # whole once the last process that holds it has ended


@pytest.mark.parametrize("end", ["killed", "from C", "its group killed"])
def test_who_cannot_speak_is_spoken_for(end: str) -> None:
    assert end_of(end) == f"{LINE}\n"


@pytest.mark.parametrize("end", ["in order", "by an error", "by Ctrl-C of its terminal"])
def test_who_can_speak_speaks_alone(end: str) -> None:
    assert LINE not in end_of(end)


def test_a_driver_survives_the_one_that_would_speak_for_it() -> None:
    end = "import psutil; [(one.kill(), one.wait()) for one in psutil.Process().children()]"
    program = PROGRAM.format(end=end)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_where_a_machine_reads_the_word_is_an_object() -> None:
    line = json.loads(end_of("killed", DRSFT_LOG="json"))
    assert (line["level"], line["message"]) == ("error", LINE)
