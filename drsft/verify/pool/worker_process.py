"""Starts, feeds and ends one worker process, with its two pipes and the folder of its sandboxes."""

import fcntl
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import drsft
from drsft.verify.options import VerifyOptions

__all__ = ["WorkerProcess"]

F_GETPIPE_SZ = 1032  # linux/fcntl.h; in Python's fcntl since 3.10, but only on Linux
READ_BYTES = 1 << 16


class WorkerProcess:
    """A worker process and its two pipes."""

    def __init__(self, options: VerifyOptions, memory_limit_bytes: int, *, is_symbolic: bool) -> None:
        # The child must find the same drsft and the user's own modules (custom verifiers).
        root = str(Path(drsft.__file__).parent.parent)
        path = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
        # The sandboxes' folder, removed with the worker when that is killed. The first sandbox makes it, so
        # that a pool that judges no code leaves nothing to remove, even when this process is killed itself.
        self.folder = os.path.join(tempfile.gettempdir(), f"drsft-verify-{uuid.uuid4().hex}")
        command = [sys.executable, "-P", "-m", "drsft.verify.pool.worker"]
        preload = "symbolic" if is_symbolic else "plain"
        arguments = [options.to_json(), str(memory_limit_bytes), str(os.getpid()), preload]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, "DRSFT_SANDBOXES": self.folder},
            start_new_session=True,  # a kill of the group takes the sandboxes of code cases along
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.poll = select.poll()
        self.poll.register(self.replies, select.POLLIN)
        self.pipe_bytes = fcntl.fcntl(self.requests, F_GETPIPE_SZ) if sys.platform == "linux" else 4096
        self.num_judged = 0
        self._pending = b""

    def send(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self.requests.fileno(), view) :]

    def read_lines(self, timeout_s: float) -> list[bytes]:
        """Returns the worker's complete lines as soon as there are any, or [] after the timeout.

        Raises EOFError if the worker died.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not self.poll.poll(left_ms):
                return []
            data = os.read(self.replies.fileno(), READ_BYTES)
            if not data:
                raise EOFError
            self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        return lines

    def kill(self) -> None:
        """Kills the worker with its process group and reaps it."""
        try:
            os.killpg(self.process.pid, 9)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.requests.close()
        self.replies.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cause_of_death(self) -> str:
        """Returns how the process ended, as " (signal 9)" or " (exit code 1)"; "" if it has not ended."""
        try:
            code = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return ""
        return f" (signal {-code})" if code < 0 else f" (exit code {code})"
