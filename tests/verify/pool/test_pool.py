"""The pool's promises: it answers, it kills, it survives, it leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drsft.errors import ConfigError, StageError
from drsft.records import Outcome, Problem, Verdict
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool
from tests.support.waiting import wait_until


def problem(reference: str, kind: str = "math") -> Problem:
    return Problem(problem_id="", question="", demonstration="", reference=reference, kind=kind)


CATASTROPHE = problem(r"(a+)+$", "regex")
CATASTROPHIC_TEXT = "a" * 40 + "b"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_killed_if_over_limit(verdict: Verdict, worker_pid: int, *, limit_s: float) -> None:
    """A verdict is the worker's own finding, or says that the limit passed; then that worker is gone."""
    if "limit of" in verdict.reason:
        assert verdict == Verdict(outcome=Outcome.UNJUDGED, reason=f"time limit of {limit_s:g} s")
        wait_until(lambda: not is_alive(worker_pid))


@pytest.fixture
def hanging_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerifyOptions:
    """The kind "hang", whose verifier creates the file that the reference names and never returns."""
    (tmp_path / "hanging_verifier.py").write_text(
        "import pathlib, threading\n"
        "def judge(question, reference, text):\n"
        "    pathlib.Path(reference).touch()\n"
        "    threading.Event().wait()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return VerifyOptions(custom={"hang": "hanging_verifier:judge"})


async def test_it_judges_a_thousand_integers():
    async with VerifierPool() as pool:
        verdicts = await asyncio.gather(*(pool.judge(problem(str(n)), f"so it is {n}") for n in range(1000)))
        assert all(verdict.is_correct for verdict in verdicts)


async def test_a_truncated_text_needs_no_work():
    async with VerifierPool() as pool:
        verdict = await pool.judge(problem("x"), "x", is_truncated=True)
        assert verdict.outcome is Outcome.TRUNCATED
        assert pool.worker_pids == []


async def test_a_case_over_its_limit_is_unjudged_and_its_neighbours_are_not():
    async with VerifierPool(timeout_s=0.5) as pool:
        await pool.judge(problem("x"), "x")
        (pid,) = pool.worker_pids
        hanging = asyncio.create_task(pool.judge(CATASTROPHE, CATASTROPHIC_TEXT))
        others = [asyncio.create_task(pool.judge(problem(f"{n}x"), f"{n}x")) for n in range(20)]
        verdict = await hanging
        assert verdict == Verdict(outcome=Outcome.UNJUDGED, reason="time limit of 0.5 s")
        assert all(other.is_correct for other in await asyncio.gather(*others))
        assert not is_alive(pid)


async def test_a_worker_that_somebody_kills_is_replaced_and_its_case_judged():
    async with VerifierPool() as pool:
        await pool.judge(problem("x"), "x")
        (pid,) = pool.worker_pids
        os.kill(pid, signal.SIGKILL)
        assert (await pool.judge(problem("y"), "y")).is_correct
        assert pool.worker_pids != [pid]


async def test_a_worker_is_recycled_after_its_cases():
    async with VerifierPool(cases_per_worker=5) as pool:
        seen = set()
        for n in range(20):
            await pool.judge(problem(f"{n}x"), f"{n}x")
            seen.update(pool.worker_pids)
        assert len(seen) >= 3


async def test_closing_leaves_no_process_and_fails_what_waits(hanging_kind, tmp_path):
    pool = VerifierPool(num_workers=2, timeout_s=3600, options=hanging_kind)
    begun = tmp_path / "begun"
    hanging = problem(str(begun), "hang")
    waiting = [asyncio.create_task(pool.judge(hanging, str(n))) for n in range(4)]
    await asyncio.to_thread(wait_until, begun.exists)
    pids = pool.worker_pids
    assert pids
    await pool.aclose()
    assert not any(is_alive(pid) for pid in pids)
    assert {(await task).outcome for task in waiting} == {Outcome.UNJUDGED}
    with pytest.raises(RuntimeError):
        await pool.judge(problem("x"), "x")
    pool.close()


def test_it_serves_one_event_loop_after_another_and_none():
    with VerifierPool() as pool:
        for n in range(3):
            assert asyncio.run(pool.judge(problem(f"{n}x"), f"{n}x")).is_correct
        assert pool.submit(problem("z"), "z").result().is_correct


def test_it_serves_a_loop_in_a_thread():
    verdicts = []
    with VerifierPool() as pool:
        thread = threading.Thread(
            target=lambda: verdicts.append(asyncio.run(pool.judge(problem("x+x"), "2x")))
        )
        thread.start()
        thread.join()
    assert verdicts[0].is_correct


async def test_a_cancelled_judgement_frees_its_slot(hanging_kind, tmp_path):
    async with VerifierPool(timeout_s=0.7, max_pending=1, options=hanging_kind) as pool:
        begun = tmp_path / "begun"
        task = asyncio.create_task(pool.judge(problem(str(begun), "hang"), ""))
        await asyncio.to_thread(wait_until, begun.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = asyncio.create_task(pool.judge(problem("x"), "x"))
        await asyncio.sleep(0)
        assert not waiting.done()  # behind the hanging case, not refused
        assert (await waiting).is_correct


async def test_equal_cases_are_judged_once():
    async with VerifierPool() as pool:
        await pool.judge(problem("x"), "x")
        (pid,) = pool.worker_pids
        os.kill(pid, signal.SIGSTOP)  # only the cache can answer now
        try:
            verdict = await pool.judge(problem("x"), "x")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert verdict.is_correct
        assert pool.worker_pids == [pid]


async def test_an_unknown_kind_is_the_callers_error():
    async with VerifierPool() as pool:
        with pytest.raises(ConfigError, match="unknown verifier kind 'maths'"):
            await pool.judge(problem("1", "maths"), "1")


async def test_the_step_check_is_a_judgement_like_others():
    async with VerifierPool() as pool:
        report = await pool.check_steps("2 + 2 = 4, 3 + 3 = 7.")
        assert (report.num_read, report.num_failed, report.first_failure) == (2, 1, "3 + 3 = 7")
        verdict = await pool.judge(problem("7", "math+steps"), r"3 + 3 = 7, so \boxed{7}")
        assert verdict.outcome is Outcome.WRONG
        assert "equations fail" in verdict.reason


def test_workers_die_with_their_parent():
    program = (
        "import asyncio, os, signal\n"
        "from drsft.records import Problem\n"
        "from drsft.verify.pool import VerifierPool\n"
        "pool = VerifierPool(num_workers=2)\n"
        "p = Problem(problem_id='', question='', demonstration='', reference='x')\n"
        "[pool.submit(p, f'x+{n}').result() for n in range(50)]\n"
        "print(*pool.worker_pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


BOMBS = {
    "tower": r"\boxed{9^{9^{9^{9}}}}",
    "tower in ASCII": "The answer is 9**9**9**9**9.",
    "factorial of factorials": r"\boxed{((10!)!)!}",
    "factorial of a tower": r"\boxed{(10^{20})!}",
    "deep brackets": r"\boxed{" + "(" * 5_000 + "1" + ")" * 5_000 + "}",
    "deep braces": r"\boxed{" + "{" * 3_000 + "1" + "}" * 3_000 + "}",
    "deep fractions": r"\boxed{" + r"\frac{1}{1+" * 300 + "1" + "}" * 300 + "}",
    "nested radicals": r"\boxed{" + r"\sqrt{2+" * 400 + "2" + "}" * 400 + "}",
    "20,000 digits": r"\boxed{" + "7" * 20_000 + "}",
    "20,000 decimals": r"\boxed{0." + "7" * 20_000 + "}",
    "huge sum": r"\boxed{" + "+".join(["1"] * 20_000) + "}",
    "long series": r"\boxed{\sum_{k=1}^{10^{12}} \frac{1}{k}}",
    "series in series": r"\boxed{\sum_{i=1}^{1000}\sum_{j=1}^{1000}\sum_{k=1}^{1000} ijk}",
    "big binomial": r"\boxed{\binom{10^{9}}{5\cdot 10^{8}}}",
    "unclosed boxes": r"\boxed{" * 30_000,
    "a megabyte of words": "so the answer is " * 60_000,
    "a megabyte of dollars": "$" * 1_000_000,
    "a megabyte of equations": "1 + 1 = 2, " * 90_000 + "so 5",
    "NUL bytes": "\x00" * 50_000 + r"\boxed{5}",
    "invalid UTF-8": b"\xff\xfe\xfa so \\boxed{5}".decode("utf-8", "surrogateescape"),
    "expanding power": r"\boxed{(x+y+z+1)^{1000}-(x+y)^{999}}",
    "unreadable integral": r"\boxed{\int_0^{\infty} \frac{\sin^{50} x}{x^{49}+\ln x} dx}",
}
LIMIT_S = 1.5


# These run into the limit itself: seconds each.
SLOW_BOMBS = ("long series", "series in series", "unreadable integral")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW_BOMBS else name for name in BOMBS]
)
async def test_no_bomb_outlives_its_limit(name, bombed_pool):
    await bombed_pool.judge(problem("y"), "y")
    (pid,) = bombed_pool.worker_pids
    verdict = await bombed_pool.judge(problem("x^{12}+7"), BOMBS[name])
    assert not verdict.is_correct
    assert_killed_if_over_limit(verdict, pid, limit_s=LIMIT_S)
    assert (await bombed_pool.judge(problem("1/2"), "0.5")).is_correct


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*)*x\1", r"([a-z]+)*!"])
async def test_no_pattern_outlives_its_limit(pattern, bombed_pool):
    await bombed_pool.judge(problem("y"), "y")
    (pid,) = bombed_pool.worker_pids
    verdict = await bombed_pool.judge(problem(pattern, "regex"), "a" * 60 + "b")
    assert not verdict.is_correct
    assert_killed_if_over_limit(verdict, pid, limit_s=LIMIT_S)
    assert (await bombed_pool.judge(problem("z"), "z")).is_correct


@pytest.fixture(scope="module")
def bombed_pool():
    """One pool for all bombs: surviving the last must not help against the next."""
    with VerifierPool(timeout_s=LIMIT_S, cache_size=0) as pool:
        # sympy is loaded before the first bomb, as in a worker that has been in use.
        pool.submit(problem(r"\int_0^1 x\,dx"), r"\int_0^2 x\,dx").result()
        yield pool


@pytest.mark.slow
def test_memory_stays_flat_over_tens_of_thousands_of_cases():
    def resident_bytes(pid: int) -> int:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    with VerifierPool(cases_per_worker=10**9, cache_size=1_000) as pool:
        sizes = []
        for block in range(8):
            numbers = range(block * 2_500, (block + 1) * 2_500)
            futures = [
                pool.submit(problem(rf"\frac{{{n}}}{{7}}+x"), rf"so \boxed{{x+{n}/7}}") for n in numbers
            ]
            assert all(future.result().is_correct for future in futures)
            sizes.append((resident_bytes(pool.worker_pids[0]), resident_bytes(os.getpid())))
    worker, own = zip(*sizes, strict=True)
    assert worker[-1] < worker[2] * 1.1
    assert own[-1] < own[2] * 1.1


async def test_a_pool_whose_processes_cannot_be_started_fails_every_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first ones were UNJUDGED, and later ones waited for ever."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    async with VerifierPool(num_workers=2) as pool:
        first = await asyncio.gather(
            *(pool.judge(problem(f"{n}x"), f"{n}x") for n in range(40)), return_exceptions=True
        )
        assert {type(one) for one in first} == {StageError}
        with pytest.raises(StageError, match=r"the verifier cannot go on: .*/no/such/python"):
            await pool.judge(problem("x"), "x")


NO_MEMORY = """
import resource, psutil
from drsft.errors import StageError
from drsft.records import Problem
from drsft.verify.pool import VerifierPool
with VerifierPool() as pool:
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    for reference in ("x", "y"):
        try:
            pool.submit(Problem(problem_id="", question="", demonstration="", reference=reference), "x")
        except StageError as error:
            print(error)
"""


def test_a_pool_whose_threads_cannot_be_started_fails_every_case() -> None:
    said = subprocess.run(
        [sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == ["the verifier cannot go on: RuntimeError: can't start new thread"] * 2
