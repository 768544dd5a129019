"""Real services for the tests, each started on loopback with ports and folders of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_ceph(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The three daemons, in order, each in a process group of its own."""
    fsid = str(uuid.uuid4())
    mon_port = free_port()
    for name in ("mon", "osd", "log", "run"):
        (folder / name).mkdir()
    conf = folder / "ceph.conf"
    conf.write_text(CEPH_CONF.format(folder=folder, fsid=fsid, port=port, mon_port=mon_port))
    log = (folder / "log" / "commands.out").open("wb")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=log, stderr=log, timeout=120)

    def start(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, "-c", str(conf), "-f"], stdout=log, stderr=log, start_new_session=True
        )

    monmap = str(folder / "monmap")
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
    run("ceph-mon", "-c", str(conf), "--mkfs", "-i", "a", "--monmap", monmap)
    yield start("ceph-mon", "-i", "a")
    osd_id = str(uuid.uuid4())
    run("ceph", "-c", str(conf), "--connect-timeout", "30", "osd", "new", osd_id)
    run("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    yield start("ceph-osd", "-i", "0")
    user = ["--uid=test", "--display-name=test", "--access-key=testkey", "--secret=testsecret"]
    run("radosgw-admin", "-c", str(conf), "-n", "client.rgw", "user", "create", *user)
    other = ["--uid=other", "--display-name=other", "--access-key=otherkey", "--secret=othersecret"]
    run("radosgw-admin", "-c", str(conf), "-n", "client.rgw", "user", "create", *other)
    yield start("radosgw", "-n", "client.rgw")


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Ceph's RADOS Gateway with one empty bucket; skipped where it is not installed."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no S3 server: {', '.join(missing)} not installed (Debian: radosgw ceph-mon ceph-osd)")
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testkey",
        "AWS_SECRET_ACCESS_KEY": "testsecret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        # This server answers 411 to the checksum trailers that newer clients send by default.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    daemons: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="drsft-s3-", dir="/tmp") as folder:
        try:
            daemons.extend(_start_ceph(Path(folder), port))
            _make_bucket(environment, "drsft-test")
            yield ObjectStore(url="s3://drsft-test", bucket="drsft-test", environment=environment)
        finally:
            for daemon in reversed(daemons):
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()


@retry(
    retry=retry_if_exception_type((BotoCoreError, ClientError)),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.3),
    reraise=True,
)
def _make_bucket(environment: dict[str, str], bucket: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    client.create_bucket(Bucket=bucket)


@pytest.fixture(scope="module")  # playwright keeps an event loop running: other files need theirs
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install playwright"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install -y chromium")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = running.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page in a context of its own, at desktop width."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: the folder that DRSFT_SCREENSHOTS names, to be looked at, or a passing one."""
    named = os.environ.get("DRSFT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
