"""The process that judges: reads cases from stdin, writes verdicts to what was stdout, until stdin closes.

Started by the pool as `python -m drsft.verify.worker OPTIONS_JSON MEMORY_LIMIT_BYTES PARENT_PID PRELOAD`. It
may be killed at any time, so it owns nothing outside itself. It dies with its parent: by the kernel's
parent-death signal where there is one, and by the end of stdin everywhere.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import BinaryIO

from drsft.records import Outcome, Verdict
from drsft.verify import clock
from drsft.verify.kinds import judge_case
from drsft.verify.maths.symbolic import load
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import decode_case, encode_verdict

__all__ = ["die_with_parent", "serve"]

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MEMORY_REASON = "memory limit"  # the pool recycles a worker that says so: its heap may be in pieces


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies; leave at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def limit_memory(limit_bytes: int) -> None:
    """Address space, soft and hard: a bomb gets MemoryError here and never wakes the OOM killer."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(requests: BinaryIO, replies: BinaryIO, options: VerifyOptions) -> None:
    """One verdict for each case. A Python error in a verifier is UNJUDGED with its name."""

    def restart_clock() -> None:
        replies.write(b"null\n")
        replies.flush()

    clock.on_load(restart_clock)
    restart_clock()  # Python is up: the first case's time begins here
    for line in requests:
        case = decode_case(line)
        try:
            verdict = judge_case(case, options)
        except MemoryError:
            verdict = Verdict(outcome=Outcome.UNJUDGED, reason=MEMORY_REASON)
        except RecursionError:
            verdict = Verdict(outcome=Outcome.UNJUDGED, reason="nested too deeply")
        except Exception as error:  # the seam: whatever a verifier does wrong must not pass for WRONG
            verdict = Verdict(outcome=Outcome.UNJUDGED, reason=f"verifier error: {type(error).__name__}")
        replies.write(encode_verdict(verdict))
        replies.flush()


def main() -> None:
    options_json, limit_bytes, parent_pid, preload = sys.argv[1:]
    die_with_parent(int(parent_pid))
    limit_memory(int(limit_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides when we end
    # Whatever a library prints must not be read as a reply.
    replies = os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    if preload == "symbolic":
        load()
    serve(sys.stdin.buffer, replies, VerifyOptions.from_json(options_json))


if __name__ == "__main__":
    main()
