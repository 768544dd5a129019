"""The worker process: reads cases from stdin, writes replies to what was stdout, until stdin closes.

The pool starts it as `python -m drsft.verify.pool.worker OPTIONS_JSON MEMORY_LIMIT_BYTES PARENT_PID PRELOAD`.
It may be killed at any time, so it owns nothing outside itself. It exits with its parent: by the kernel's
parent-death signal where there is one, and by the end of stdin everywhere.
"""

import ctypes
import gc
import os
import resource
import signal
import sys
from typing import BinaryIO

from drsft.records import Outcome, Verdict
from drsft.verify import deadlines
from drsft.verify.case import Case
from drsft.verify.kinds import judge_case
from drsft.verify.maths.symbolic import load
from drsft.verify.options import VerifyOptions
from drsft.verify.pool.messages import Reply, decode_case, encode_reply

__all__ = ["die_with_parent", "serve"]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Asks the kernel for SIGKILL when the parent dies; exits at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def limit_memory(limit_bytes: int) -> None:
    """Limits this process's address space, so that a huge value raises MemoryError before the system kills a
    process.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(requests: BinaryIO, replies: BinaryIO, options: VerifyOptions) -> None:
    """Reads one case after another and writes one reply for each, until `requests` ends."""

    def send(reply: Reply | None) -> None:
        replies.write(encode_reply(reply))
        replies.flush()

    def keep_imports() -> None:
        gc.freeze()  # the collector need not visit what sympy and pint made: it lives as long as the worker
        send(None)

    deadlines.on_imports_done(keep_imports)
    send(None)  # Python has started: the first case's time begins here
    for line in requests:
        send(_reply_to(decode_case(line), options))


def _reply_to(case: Case, options: VerifyOptions) -> Reply:
    """Returns the reply to one case. A Python error in a verifier is UNJUDGED with its name."""
    try:
        return Reply(verdict=judge_case(case, options))
    except MemoryError:
        return Reply(verdict=_unjudged("memory limit"), is_worker_spent=True)
    except RecursionError:
        return Reply(verdict=_unjudged("nested too deeply"))
    except Exception as error:  # the seam: whatever a verifier does wrong must not pass for WRONG
        return Reply(verdict=_unjudged(f"verifier error: {type(error).__name__}"))


def _unjudged(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.UNJUDGED, reason=reason)


def main() -> None:
    options_json, limit_bytes, parent_pid, preload = sys.argv[1:]
    die_with_parent(int(parent_pid))
    limit_memory(int(limit_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool ends this process
    # Whatever a library prints must not be read as a reply.
    replies = os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    if preload == "symbolic":
        load()
    serve(sys.stdin.buffer, replies, VerifyOptions.from_json(options_json))


if __name__ == "__main__":
    main()
