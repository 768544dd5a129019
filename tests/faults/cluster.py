"""A Ray cluster of a head without CPUs and one node, either of which can be killed and replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from drsft.bench.serving.servers import free_port

__all__ = ["Cluster", "running_cluster"]

STARTED = "Ray runtime started"
# Heads and nodes that are gone are given up after seconds instead of a minute: a trial need not wait longer.
IMPATIENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "6",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2500",  # five in a row, and a node that answers nothing is dead
    "RAY_AUTH_MODE": "disabled",
}


class Cluster:
    """Its processes get `environment`, which is what the actors of every run have."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, {**os.environ, **IMPATIENT, **environment}
        self._environment.pop("RAY_ADDRESS", None)
        self._port, self._client_port = free_port(), free_port()
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._num_hung = 0

    @property
    def environment(self) -> dict[str, str]:
        """For a driver."""
        return {**IMPATIENT, "RAY_ADDRESS": f"127.0.0.1:{self._port}"}

    def start_head(self) -> None:
        ports = [f"--port={self._port}", f"--ray-client-server-port={self._client_port}"]
        self._start(
            "head",
            ["--head", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self._folder}", *ports],
        )

    def start_node(self) -> None:
        """At an address of its own, or drivers would join it, and die with it, instead of the head.

        It has room for the actors of all trials side by side: those that are stopped keep theirs.
        """
        address = f"127.0.0.{2 + self._num_hung}"
        options = [f"--address=127.0.0.1:{self._port}", "--num-cpus=32", f"--node-ip-address={address}"]
        self._start("node", options)

    def hang_node(self) -> list[psutil.Process]:
        """Stops all processes of the node, as when its machine hangs; returns them. Another may start."""
        node = self._nodes.pop("node")
        self._num_hung += 1
        self._nodes[f"hung-{self._num_hung}"] = node
        root = psutil.Process(node.pid)
        stopped = [root, *root.children(recursive=True)]
        for one in stopped:
            _send(one, signal.SIGSTOP)
        return stopped

    def workers(self, name: str) -> list[psutil.Process]:
        """The processes of a machine."""
        found = psutil.Process(self._nodes[name].pid).children(recursive=True)
        return [one for one in found if one.is_running() and one.cmdline()]

    def kill(self, name: str) -> None:
        """SIGKILL for all of a machine at once, as when it is taken away."""
        node = self._nodes.pop(name)
        if node.poll() is None:
            root = psutil.Process(node.pid)
            for one in [*root.children(recursive=True), root]:
                _send(one, signal.SIGKILL)
            node.wait()

    def kill_process(self, name: str, program: str) -> None:
        """SIGKILL for one of Ray's own processes there (gcs_server, raylet); the rest must notice."""
        for one in psutil.Process(self._nodes[name].pid).children(recursive=True):
            if one.name() == program:
                _send(one, signal.SIGKILL)

    def stop(self) -> None:
        for name in list(self._nodes):
            self.kill(name)

    def _start(self, name: str, options: list[str]) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        command += ["--num-gpus=0", "--disable-usage-stats"]
        command += [f"--object-store-memory={100 << 20}"]
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        log = self._folder / f"{name}-{time.time_ns()}.log"
        with log.open("wb") as file:
            self._nodes[name] = subprocess.Popen(
                command, env=self._environment, stdout=file, stderr=file, start_new_session=True
            )
        until_s = time.monotonic() + 90
        while STARTED not in log.read_text():
            if time.monotonic() > until_s or self._nodes[name].poll() is not None:
                raise RuntimeError(f"a node of the cluster did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)  # ray start has no other way to say so


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def running_cluster(environment: Mapping[str, str]) -> Iterator[Cluster]:
    # Short: the paths of Ray's sockets lie below it, and Unix allows 107 bytes.
    with TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), environment)
        try:
            cluster.start_head()
            cluster.start_node()
            yield cluster
        finally:
            cluster.stop()
