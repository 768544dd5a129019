"""One trial's run while it is disturbed: its processes, its store, and the services under it."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from drsft.errors import StorageError
from drsft.run.shards import ShardSet
from drsft.storage import Store
from tests.faults.checks import Ended
from tests.faults.cluster import Cluster
from tests.faults.driver import run_forked
from tests.faults.object_store import Ceph
from tests.faults.page_reader import SlowReader
from tests.faults.proxy import Proxy
from tests.faults.workload import Journal

__all__ = ["Driver", "Scene", "Services"]

ROOT = Path(__file__).parents[2]
POLL_S = 0.15
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.driver"])
LOCK = threading.Lock()  # multiprocessing looks after all processes whenever it starts one
LIMIT_S = 240.0  # for a driver to end, once the fault is over: other work may share the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What all trials share; those that disturb it run alone and leave it whole."""

    ceph: Ceph
    quiet_url: str  # of both S3 servers, past the disturbances
    proxy: Proxy
    cluster: Cluster


class Driver:
    """A process of the command line, with what it says kept in a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path, stdout: Path) -> None:
        self._log = log
        self.process = FORKS.Process(target=run_forked, args=(arguments, dict(environment), log, stdout))
        with LOCK:
            self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        with LOCK:
            return self.process.is_alive()

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def end(self) -> Ended | None:
        """Waits for its end; None when it hangs, and then it is killed."""
        until_s = time.monotonic() + LIMIT_S
        while self.is_running:
            if time.monotonic() > until_s:
                os.kill(self.pid, signal.SIGKILL)
                return None
            time.sleep(POLL_S)
        assert self.process.exitcode is not None
        return Ended(code=self.process.exitcode, said=self.said)


@dataclass(slots=True, kw_only=True)
class Scene:
    services: Services
    draws: random.Random
    scope: str  # names the trial in every key of its run
    run: Store  # as others see it: not through the proxy
    home: Path
    disk: Path | None  # the small file system of the run or of its drivers, where there is one
    journal: Journal
    temp: Path
    stdout: Path
    command: list[str]
    environment: dict[str, str]
    drivers: list[Driver] = field(default_factory=list)
    damaged: str | None = None  # the key of the object whose bytes were changed
    readers: list[SlowReader] = field(default_factory=list)  # of the live page
    unclear: list[str] = field(default_factory=list)  # what a fault itself saw
    processes: dict[int, psutil.Process] = field(default_factory=dict)

    def start(self) -> Driver:
        """The command once more."""
        log = self.home / f"driver-{len(self.drivers)}.log"
        environment = {**self.environment, "TMPDIR": str(self.temp)}
        driver = Driver(self.command, environment, log, self.stdout)
        self.drivers.append(driver)
        self.note(driver.pid)
        return driver

    @property
    def driver(self) -> Driver:
        return self.drivers[0]

    @property
    def has_finished(self) -> bool:
        """Whether some driver ended well."""
        return any(not driver.is_running and driver.process.exitcode == 0 for driver in self.drivers)

    def note(self, pid: int) -> None:
        """Remembers a process and those below it: none may be there when the run is over."""
        try:
            root = psutil.Process(pid)
            for one in [root, *root.children(recursive=True)]:
                self.processes.setdefault(one.pid, one)
        except psutil.NoSuchProcess:
            return

    def actors(self) -> list[psutil.Process]:
        """The rewriting actors that live."""
        alive = []
        for pid in self.journal.actors():
            self.note(pid)
            if pid in self.processes and self.processes[pid].is_running():
                alive.append(self.processes[pid])
        return alive

    def verifiers(self) -> list[psutil.Process]:
        """Their verifiers' processes that live."""
        found = []
        for actor in self.actors():
            try:
                found += [one for one in actor.children() if "drsft.verify.pool.worker" in one.cmdline()]
            except psutil.Error:
                continue
        return found

    def num_commits(self) -> int:
        try:
            return len(ShardSet(self.run, "rewrite").done())
        except StorageError:
            return 0

    def wait_for(self, happened: Callable[[], bool]) -> bool:
        """Whether it happened before the first driver ended."""
        while self.driver.is_running:
            if happened():
                return True
            time.sleep(POLL_S)  # other processes' doings give no event
        return False


def environment_of(services: Services, url: str) -> dict[str, str]:
    """A driver's: the cluster, and the store behind the proxy."""
    aws = {**services.ceph.environment, "AWS_ENDPOINT_URL": url}
    return {
        **os.environ,
        **aws,
        **services.cluster.environment,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
