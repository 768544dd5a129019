"""The outside of the sandbox: one process for one program, killed with its process group after its time
limit.

Works as root and as an ordinary user: what confines the program (seccomp, Landlock, limits) needs no rights.
If the kernel lacks one of the required protections, nothing is run unless `allow_weak` is set.
"""

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drsft.errors import SetupError
from drsft.verify.options import VerifyOptions

__all__ = ["PROTECTIONS", "Run", "check_sandbox", "run_program"]

PROTECTIONS = {
    "files": "confinement of files (Landlock, Linux 5.13)",
    "processes and network": "a ban on processes, signals and the network (seccomp)",
    "capabilities": "dropping of capabilities",
}
REQUIRED = ("files", "processes and network")
MAX_REPORT_BYTES = 1 << 16
MAX_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class Run:
    """How a program ended; `missing` are the protections that its sandbox lacked."""

    status: str  # passed, failed, raised, exited, refused, crashed, "CPU limit", "time limit"
    detail: str
    missing: tuple[str, ...]


def check_sandbox(options: VerifyOptions) -> tuple[str, ...]:
    """Returns the protections that this machine lacks; raises SetupError if it lacks a required one.

    With `allow_weak_sandbox` in the options, none is required.
    """
    run = run_program("", options)
    if run.status == "refused":
        names = "; ".join(PROTECTIONS[name] for name in run.missing)
        raise SetupError(
            f"code cannot be run safely on this machine: it lacks {names}; use another machine, or set "
            "allow_weak_sandbox if all code is trusted"
        )
    return run.missing


def run_program(program: str, options: VerifyOptions) -> Run:
    """Runs `program` in a sandbox until it ends or reaches a limit, and returns how it ended.

    It runs in a temporary folder, which is then removed.
    """
    root = os.environ.get("DRSFT_SANDBOXES")  # the pool's, which removes it with the worker
    if root is not None:
        os.makedirs(root, mode=0o700, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="drsft-sandbox-", dir=root)
    reports, report_end = os.pipe()
    word = secrets.token_hex(16)
    limits = {
        "RLIMIT_CPU": options.code_cpu_s,
        "RLIMIT_AS": options.code_memory_bytes,
        "RLIMIT_FSIZE": options.code_file_bytes,
        "RLIMIT_NOFILE": MAX_OPEN_FILES,
        "RLIMIT_CORE": 0,
    }
    if os.getuid() != 0:  # counted for each user, and never for root: there only seccomp stops a fork bomb
        limits["RLIMIT_NPROC"] = _num_own_threads() + options.code_processes
    request = {
        "program": program,
        "folder": folder,
        "word": word,
        "descriptor": report_end,
        "required": () if options.allow_weak_sandbox else REQUIRED,
        "limits": limits,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("jail.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
        pass_fds=(report_end,),
        start_new_session=True,
    )
    os.close(report_end)
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode("ascii"))
            process.stdin.close()
        report = _read_report(reports, options.code_timeout_s)
        return _judge_end(process, report, word)
    finally:
        _kill(process)
        os.close(reports)
        shutil.rmtree(folder, ignore_errors=True)


def _read_report(descriptor: int, timeout_s: float) -> bytes | None:
    """Returns everything that was reported before the end; None if time ran out first."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = b""
    while True:
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0 or not poll.poll(left_ms):
            return None
        piece = os.read(descriptor, MAX_REPORT_BYTES)
        if not piece or len(data) > MAX_REPORT_BYTES:
            return data
        data += piece


def _judge_end(process: "subprocess.Popen[bytes]", data: bytes | None, word: str) -> Run:
    if data is None:
        return Run("time limit", "", ())
    for line in reversed(data.splitlines()):
        with suppress(ValueError):
            report = json.loads(line)
            if isinstance(report, dict) and report.get("word") == word:
                return Run(str(report["status"]), str(report["detail"]), tuple(report["missing"]))
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return Run("crashed", "no report", ())
    if code == -signal.SIGXCPU:
        return Run("CPU limit", "", ())
    return Run("crashed", f"signal {-code}" if code < 0 else f"exit code {code}", ())


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _num_own_threads() -> int:
    """Returns the number of the user's threads, which RLIMIT_NPROC includes in its count."""
    own = os.getuid()
    num_threads = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == own:
                    num_threads += len(os.listdir(f"/proc/{entry.name}/task"))
    return num_threads
