"""A run as a submitted job on a cluster of hosts, with links between two of them cut in each of its stages.

    python -m tests.faults.cut_links --out DIR

Needs root, and DIR not below /tmp. A head, two workers, an S3 server (moto's) and a client have network
namespaces of their own; the client submits the job, as docs/jobs.md says. Ends with 1 when a run had any
trouble.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drsft.config.configfile import load_config
from drsft.errors import StorageError
from drsft.storage import Store, open_store
from tests.faults.checks import observe, wrong_records
from tests.faults.cluster import IMPATIENT
from tests.faults.hosts import Host, Network, running_network
from tests.faults.object_store import MOTO, make_bucket
from tests.faults.workload import write_workload

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
BUCKET = "drsft-hosts"
STORE_URL = f"http://{Host.STORE.address}:5000"
JOBS_URL = f"http://{Host.HEAD.address}:8265"
CUTS = (
    (Host.WORKER_1, Host.STORE),
    (Host.HEAD, Host.STORE),
    (Host.HEAD, Host.WORKER_1),
    (Host.WORKER_1, Host.WORKER_2),
    (Host.CLIENT, Host.HEAD),
)
SIGNS = {
    "rewrite": "rewrite/commits/",
    "gap": "gap/",
    "train": "/checkpoints/",
}  # of a stage that does something
MOST_STARTS = 4
LIMIT_S = 900.0  # for a job: other work may share the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    cut: str
    stages: list[str]  # in which the link was cut
    ends: list[str]  # of the job, and of the same job again
    wall_s: float
    troubles: dict[str, list[str]]


class Hosts:
    """The cluster, the store and the client; this process is on the client."""

    def __init__(self, network: Network, out: Path) -> None:
        self.network, self.out = network, out
        self._environment = {
            **IMPATIENT,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "AWS_ENDPOINT_URL": STORE_URL,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        os.environ.update(self._environment)

    def start(self) -> None:
        network = self.network
        network.enter(Host.CLIENT)
        network.start(Host.STORE, [str(MOTO), "-H", "0.0.0.0", "-p", "5000"], {})
        make_bucket(STORE_URL, BUCKET)
        head = ["--head", "--num-cpus=0", "--include-dashboard=true", f"--dashboard-host={Host.HEAD.address}"]
        self._join(Host.HEAD, head)
        for host in (Host.WORKER_1, Host.WORKER_2):
            self._join(host, [f"--address={Host.HEAD.address}:6379", "--num-cpus=3"])

    def _join(self, host: Host, options: list[str]) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-gpus=0"]
        command += [f"--node-ip-address={host.address}", f"--object-store-memory={100 << 20}", *options]
        log = self.network.start(host, [*command, "--disable-usage-stats"], self._environment)
        until_s = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            if time.monotonic() > until_s:
                raise RuntimeError(f"{host.name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)  # ray start has no other way to say so

    def submit(self, arguments: list[str], journal: Path) -> str:
        """Submits the job from the client; returns its id."""
        from ray.job_submission import JobSubmissionClient

        client: Any = JobSubmissionClient(JOBS_URL)
        entrypoint = " ".join([sys.executable, "-m", "tests.faults.driver", *arguments])
        variables = {"FAULTS_JOURNAL": str(journal)}
        job: str = client.submit_job(entrypoint=entrypoint, runtime_env={"env_vars": variables})
        return job


def job_status(job: str) -> tuple[str, str]:
    """The state of a job and the last line of its logs; both empty while the head cannot be reached."""
    from ray.job_submission import JobSubmissionClient

    with suppress(ConnectionError, RuntimeError, OSError):
        client: Any = JobSubmissionClient(JOBS_URL)
        said = client.get_job_logs(job).strip().splitlines()
        return str(client.get_job_status(job)), (said or [""])[-1]
    return "", ""


def running(job: str) -> Iterator[None]:
    """Yields while a job runs. Raises TimeoutError if it hangs."""
    until_s = time.monotonic() + LIMIT_S
    while job_status(job)[0] in ("", "PENDING", "RUNNING"):
        if time.monotonic() > until_s:
            raise TimeoutError(f"job {job} has not ended after {LIMIT_S:g} s: {job_status(job)[1]}")
        yield
        time.sleep(0.5)  # the job's server gives no event


def has(run: Store, sign: str) -> bool:
    try:
        return any(sign in key for key in run.keys(""))
    except StorageError:
        return False


def run_cut(
    hosts: Hosts, config: Path, cut: tuple[Host, Host] | None, reference: dict[str, str], draws: random.Random
) -> tuple[Result, Store]:
    """One run, with the link cut for some seconds in each stage; then the same command until it is done."""
    began_s, name = time.monotonic(), "none" if cut is None else "-".join(host.name.lower() for host in cut)
    storage = f"s3://{BUCKET}/{name}-{draws.randrange(1 << 24):06x}"
    overrides = [f"storage={storage}", "resources.rewrite_actors=2"]
    run = open_store(storage).within(load_config(config, overrides).run_id)
    arguments, journal = ["run", str(config), *overrides], hosts.out / f"{name}.journal"
    stages, ends = [], []
    signs = dict(SIGNS)
    for _ in range(MOST_STARTS):
        job = hosts.submit(arguments, journal)
        for _ in running(job):
            stage = next(iter(signs), None)
            if cut is not None and stage is not None and has(run, signs[stage]):
                del signs[stage]
                hosts.network.cut(*cut)
                time.sleep(draws.uniform(2, 8))
                hosts.network.heal(*cut)
                stages.append(stage)
        status, line = job_status(job)
        ends.append(status if status == "SUCCEEDED" else f"{status}: {line[:300]}")
        if status == "SUCCEEDED":
            break
    troubles = wrong_records(run, "training", reference or observe(run, "training"))
    if ends[-1] != "SUCCEEDED":
        troubles["unfinished"] = ends
    result = Result(
        cut=name,
        stages=stages,
        ends=ends,
        wall_s=round(time.monotonic() - began_s, 1),
        troubles={kind: found for kind, found in troubles.items() if found},
    )
    return result, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through all the services' ends
    out = arguments.out.absolute()
    config, draws = write_workload(out), random.Random(arguments.seed)
    results = []
    with running_network(out / "hosts") as network:
        hosts = Hosts(network, out)
        hosts.start()
        undisturbed, run = run_cut(hosts, config, None, {}, draws)
        print(json.dumps(asdict(undisturbed)), flush=True)
        reference = observe(run, "training")
        for cut in CUTS:
            result, _ = run_cut(hosts, config, cut, reference, draws)
            print(json.dumps(asdict(result)), flush=True)
            results.append(result)
    sys.exit(any(one.troubles for one in [undisturbed, *results]))


if __name__ == "__main__":
    main()
