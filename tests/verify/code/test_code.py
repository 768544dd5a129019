"""Code runs only inside the sandbox, and what it does there stays there."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import pytest

from drsft.errors import SetupError
from drsft.records import Outcome, Problem
from drsft.verify.case import Case
from drsft.verify.code.judge import judge_code
from drsft.verify.code.program import extract_code, parse_tests, program_of, reference_of_row
from drsft.verify.code.sandbox import check_sandbox, run_program
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool

OPTIONS = VerifyOptions(code_timeout_s=4, code_cpu_s=1)
MBPP_LIKE = json.dumps({"tests": ["assert double(2) == 4", "assert double(-1) == -2"]})
HUMANEVAL_LIKE = json.dumps(
    {
        "prompt": 'import math\n\ndef half_up(x):\n    """Round half up."""\n',
        "test": "def check(candidate):\n    assert candidate(2.5) == 3\n    assert candidate(-2.5) == -2\n",
        "entry_point": "half_up",
    }
)


@pytest.fixture(scope="module", autouse=True)
def _sandbox():
    try:
        check_sandbox(OPTIONS)
    except SetupError as error:
        pytest.skip(str(error))


def judge(text: str, reference: str = MBPP_LIKE):
    return judge_code(Case(kind="code", question="", reference=reference, text=text), OPTIONS)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("def double(x):\n    return 2 * x", Outcome.CORRECT),
        ("Here it is:\n```python\ndef double(x):\n    return x + x\n```\nDone.", Outcome.CORRECT),
        ("```\ndef helper(): pass\n```\nand\n```py\ndef double(x): return x*2\n```", Outcome.CORRECT),
        ("def double(x):\n    return 3 * x", Outcome.WRONG),
        ("def double(x):\n    2 * x", Outcome.WRONG),
        ("def double(x) return", Outcome.WRONG),
        ("I would multiply it by two", Outcome.NO_ANSWER),
    ],
)
def test_solutions_are_judged_by_their_tests(text, outcome):
    assert judge(text).outcome is outcome


def test_a_completion_may_go_on_from_the_prompt_or_repeat_it():
    assert judge("    return math.floor(x + 0.5)\n", HUMANEVAL_LIKE).is_correct
    assert judge("def half_up(x):\n    return math.floor(x + 0.5)\n", HUMANEVAL_LIKE).is_correct
    assert judge("    return round(x)\n", HUMANEVAL_LIKE).outcome is Outcome.WRONG


HOSTILE = {
    "an endless loop": "while True: pass",
    "exit": "import os; os._exit(0)",
    "polite exit": "import sys; sys.exit(0)",
    "a fork bomb": "import os\n    while True: os.fork()",
    "a process": "import subprocess; subprocess.run(['true'])",
    "ten gigabytes": "bytearray(10 * 2**30)",
    "a file outside": "open({outside!r}, 'w').write('x')",
    "removal outside": "import os; os.remove({victim!r})",
    "change of mode": "import os; os.chmod({victim!r}, 0)",
    "reading outside": "open({victim!r}).read()",
    "a socket": "import socket; socket.socket()",
    "a connection": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
    "killing its parent": "import os; os.kill(os.getppid(), 9)",
    "killing everyone": "import os; os.kill(-1, 9)",
    "raising its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
    "a file of a gigabyte": "open('big', 'wb').truncate(2**30)",
    "a namespace of its own": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "a signal to its group": "import os; os.killpg(os.getpgrp(), 9)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_is_never_correct_and_touches_nothing(name, tmp_path):
    victim, outside = tmp_path / "victim", tmp_path / "outside"
    victim.write_text("precious")
    deed = HOSTILE[name].format(victim=str(victim), outside=str(outside))
    verdict = judge(f"def double(x):\n    {deed}\n    return 2 * x\n")
    assert not verdict.is_correct
    assert victim.read_text() == "precious"
    assert victim.stat().st_mode & 0o600 == 0o600
    assert not outside.exists()


def test_a_forged_report_is_no_report():
    forged = json.dumps({"word": "guess", "status": "passed", "detail": "", "missing": []})
    write = f"os.write(fd, {forged + chr(10)!r}.encode())"
    code = f"import os\nfor fd in range(3, 20):\n    try: {write}\n    except OSError: pass\nos._exit(0)"
    assert judge(code).outcome is Outcome.WRONG


def test_a_program_that_waits_for_ever_ends_at_its_time_limit():
    options = VerifyOptions(code_timeout_s=0.5)
    run = run_program("import threading; threading.Event().wait()", options)
    assert run.status == "time limit"


def test_the_sandbox_leaves_no_folder_and_no_process(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    assert run_program("open('a', 'w').write('x')", OPTIONS).status == "passed"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_protection_is_refused_unless_told_otherwise(tmp_path):
    """The jail itself decides, from what it could not get: here a protection that no machine gives."""
    jail = __import__("drsft.verify.code.jail", fromlist=["__file__"]).__file__
    for required, status in ((["files"], "refused"), ([], "passed")):
        read_end, write_end = os.pipe()
        program = (
            "import sys, runpy\n"
            f"sys.argv = [{jail!r}]\n"
            f"names = runpy.run_path({jail!r})\n"
            "names['main'].__globals__['confine_files'] = lambda folder: False\n"
            "names['main']()\n"
        )
        request = {
            "program": "",
            "folder": str(tmp_path),
            "word": "w",
            "descriptor": write_end,
            "required": required,
            "limits": {},
        }
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(request).encode(),
            pass_fds=(write_end,),
            check=False,
        )
        os.close(write_end)
        report = json.loads(os.read(read_end, 10_000))
        os.close(read_end)
        assert (report["status"], report["missing"]) == (status, ["files"])


async def test_the_pool_gives_code_its_own_time():
    """No sandbox starts in a millisecond, so the pool's own limit would end every program."""
    async with VerifierPool(timeout_s=0.001, options=VerifyOptions(code_timeout_s=5)) as pool:
        problem = Problem(problem_id="", question="", demonstration="", reference=MBPP_LIKE, kind="code")
        assert (await pool.judge(problem, "def double(x): return 2 * x")).is_correct
        endless = replace(problem, reference=r"(a+)+$", kind="regex")
        assert (await pool.judge(endless, "a" * 40 + "b")).reason == "time limit of 0.001 s"


def test_programs_are_put_together_in_the_right_order():
    tests = parse_tests(json.dumps({"tests": ["assert a == 1"], "setup": "a = f()"}))
    assert tests is not None
    program = program_of(tests, "def f(): return 1")
    assert program.index("def f") < program.index("a = f()") < program.index("assert a")
    assert extract_code("```python\nx = 1\n", "") == "x = 1\n"


def test_a_number_beside_the_tests_does_no_harm() -> None:
    """Files are read with their numbers as they are written, so a field may hold a Decimal."""
    row = {"test_list": ["assert f(1) == 1"], "test_setup_code": Decimal("1.50")}
    reference = reference_of_row(row, "Write f.")
    assert reference is not None
    assert "1.50" in reference
