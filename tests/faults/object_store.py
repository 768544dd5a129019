"""S3 servers on loopback: Ceph's RADOS Gateway, which can be killed and started again, and moto's."""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from drsft.bench.serving.servers import free_port

__all__ = [
    "MOTO",
    "Ceph",
    "ObjectStore",
    "client",
    "make_bucket",
    "missing_programs",
    "running_ceph",
    "running_moto",
]

MOTO = Path(__file__).parents[2] / ".venv-moto/bin/moto_server"
NEEDED = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")

# One monitor, one object store daemon on a sparse file, one gateway; nothing is replicated, no internal
# authentication, and every interval is short: this is a store for one test session.
CEPH_CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1
mon tick interval = 1
paxos propose interval = 0.05
osd objectstore = bluestore
ms bind ipv6 = false
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
osd memory target = 939524096
bluestore block size = 4294967296
bluestore block wal size = 0
bluestore block db size = 0
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/log/$name.log
log to stderr = false
[mon.a]
mon data = {folder}/mon
mon initial members = a
[osd.0]
osd data = {folder}/osd
[client.rgw]
rgw data = {folder}/run
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw run sync thread = false
"""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A running S3 server and how to reach it."""

    url: str
    bucket: str
    environment: dict[str, str]


def missing_programs(*others: Path) -> list[str]:
    return [str(name) for name in (*NEEDED, *others) if shutil.which(name) is None]


@dataclass(slots=True)
class Ceph:
    """Three daemons, each in a process group of its own, on files in `folder`."""

    folder: Path
    port: int = field(default_factory=free_port)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def make(self) -> None:
        """The first start: makes the disks of the daemons, and two users, `test` and `other`."""
        fsid, osd_id, mon_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
        for name in ("mon", "osd", "log", "run"):
            (self.folder / name).mkdir()
        text = CEPH_CONF.format(folder=self.folder, fsid=fsid, port=self.port, mon_port=mon_port)
        self._conf.write_text(text)
        monmap = str(self.folder / "monmap")
        self._run(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap
        )
        self._run("ceph-mon", "-c", str(self._conf), "--mkfs", "-i", "a", "--monmap", monmap)
        self._start("ceph-mon", "-i", "a")
        self._run("ceph", "-c", str(self._conf), "--connect-timeout", "30", "osd", "new", osd_id)
        self._run("ceph-osd", "-c", str(self._conf), "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._start("ceph-osd", "-i", "0")
        for name in ("test", "other"):
            keys = [f"--access-key={name}key", f"--secret={name}secret"]
            user = ["user", "create", f"--uid={name}", f"--display-name={name}", *keys]
            self._run("radosgw-admin", "-c", str(self._conf), "-n", "client.rgw", *user)
        self._start("radosgw", "-n", "client.rgw")

    def start(self) -> None:
        """Again, after a kill."""
        self._start("ceph-mon", "-i", "a")
        self._start("ceph-osd", "-i", "0")
        self._start("radosgw", "-n", "client.rgw")

    def kill(self) -> None:
        for daemon in reversed(self.daemons):
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        self.daemons.clear()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "testkey",
            "AWS_SECRET_ACCESS_KEY": "testsecret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            # This server answers 411 to the checksum trailers that newer clients send by default.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    @property
    def _conf(self) -> Path:
        return self.folder / "ceph.conf"

    def _run(self, *command: str) -> None:
        with (self.folder / "log" / "commands.out").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, timeout=120)

    def _start(self, *command: str) -> None:
        with (self.folder / "log" / "commands.out").open("ab") as log:
            self.daemons.append(
                subprocess.Popen(
                    [*command, "-c", str(self._conf), "-f"], stdout=log, stderr=log, start_new_session=True
                )
            )


@contextmanager
def running_ceph(bucket: str) -> Iterator[Ceph]:
    """A server with one empty bucket, gone afterwards."""
    with TemporaryDirectory(prefix="drsft-s3-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ceph = Ceph(Path(folder))
        try:
            ceph.make()
            make_bucket(ceph.environment["AWS_ENDPOINT_URL"], bucket)
            yield ceph
        finally:
            ceph.kill()


@contextmanager
def running_moto(bucket: str) -> Iterator[int]:
    """The port of moto's server, which keeps everything in memory, with one empty bucket."""
    port = free_port()
    command = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    with TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            make_bucket(f"http://127.0.0.1:{port}", bucket)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="testkey",
        aws_secret_access_key="testsecret",
        region_name="us-east-1",
    )


@retry(
    retry=retry_if_exception_type((BotoCoreError, ClientError)),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.3),
    reraise=True,
)
def make_bucket(url: str, bucket: str) -> None:
    """Waits until the server answers."""
    client(url).create_bucket(Bucket=bucket)
