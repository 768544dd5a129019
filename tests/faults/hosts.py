"""Hosts in network namespaces of this machine: each with its own address and /tmp, and links to cut."""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import psutil

__all__ = ["Host", "Network", "running_network"]

NOBODY = "02:00:00:00:00:fe"  # a hardware address that no host has: what is sent there is lost without a word
CLONE_NEWNET = 0x40000000


class Host(IntEnum):
    """The last part of its address."""

    HEAD = 1
    WORKER_1 = 2
    WORKER_2 = 3
    STORE = 4
    CLIENT = 5

    @property
    def address(self) -> str:
        return f"10.213.77.{self.value}"


class Network:
    """Namespaces of the hosts, and one that is the switch between them; needs root."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, f"drsft{os.getpid()}"
        self._processes: dict[Host, list[subprocess.Popen[bytes]]] = {host: [] for host in Host}

    def connect(self) -> None:
        switch = f"{self._name}-switch"
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in Host:
            here, port = self._namespace(host), f"port{host.value}"
            _ip("netns", "add", here)
            _ip("-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", here, "address", "add", f"{host.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _ip("-n", here, "link", "set", link, "up")
            _ip("-n", here, "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address

    def enter(self, host: Host) -> None:
        """Moves this process onto the host; before it starts threads."""
        file = os.open(f"/run/netns/{self._namespace(host)}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(file)

    def start(self, host: Host, command: Sequence[str], environment: Mapping[str, str]) -> Path:
        """Starts a process on the host; returns the file of what it says."""
        temp = self._folder / host.name.lower() / "tmp"
        temp.mkdir(parents=True, exist_ok=True)
        log = temp.parent / f"{len(self._processes[host])}.log"
        own_temp = ["sh", "-c", 'mount --bind "$0" /tmp && exec "$@"', str(temp), *command]
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace(host), *own_temp],
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes[host].append(process)
        return log

    def kill(self, host: Host) -> None:
        """SIGKILL for all that was started there, and what that started."""
        for process in self._processes[host]:
            if process.poll() is None:
                root = psutil.Process(process.pid)
                for one in [*root.children(recursive=True), root]:
                    if one.is_running():
                        one.kill()
                process.wait()

    def cut(self, first: Host, second: Host) -> None:
        """Loses all that the two send to each other, until `heal`."""
        for here, there in ((first, second), (second, first)):
            where = [there.address, "dev", "eth0"]
            _ip(
                "-n",
                self._namespace(here),
                "neighbour",
                "replace",
                *where,
                "lladdr",
                NOBODY,
                "nud",
                "permanent",
            )

    def heal(self, first: Host, second: Host) -> None:
        for here, there in ((first, second), (second, first)):
            _ip("-n", self._namespace(here), "neighbour", "delete", there.address, "dev", "eth0")

    def remove(self) -> None:
        for host in Host:
            self.kill(host)
        for name in [*map(self._namespace, Host), f"{self._name}-switch"]:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _namespace(self, host: Host) -> str:
        return f"{self._name}-{host.value}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    network = Network(folder)
    try:
        network.connect()
        yield network
    finally:
        network.remove()
