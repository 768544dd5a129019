"""The trials of one seed, with the services under them and their results."""

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.faults.checks import Subject
from tests.faults.cluster import running_cluster
from tests.faults.faults import Fault
from tests.faults.object_store import running_ceph, running_moto
from tests.faults.proxy import running_proxy
from tests.faults.scene import Services
from tests.faults.trial import BUCKET, MOTO_BUCKET, Result, draw_fault, run_trial, undisturbed
from tests.faults.workload import write_workload

__all__ = ["Suite", "read_results", "running_services"]

RESULTS = "results.jsonl"


@contextmanager
def running_services(set_variable: Callable[[str, str], None]) -> Iterator[Services]:
    """Two S3 servers, the proxy before them, and a Ray cluster.

    This process sees the servers through a proxy that disturbs nothing and only finds a bucket's server.
    """
    with running_ceph(BUCKET) as ceph, running_moto(MOTO_BUCKET) as moto_port, ExitStack() as proxies:
        ports = {BUCKET: ceph.port, MOTO_BUCKET: moto_port}
        proxy, quiet = (proxies.enter_context(running_proxy(ports)) for _ in range(2))
        for name, value in {**ceph.environment, "AWS_ENDPOINT_URL": quiet.url}.items():
            set_variable(name, value)
        actors = {**ceph.environment, "AWS_ENDPOINT_URL": proxy.url, "PYTHONPATH": os.getcwd()}
        with running_cluster({**actors, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}) as cluster:
            yield Services(ceph=ceph, quiet_url=quiet.url, proxy=proxy, cluster=cluster)


class Suite:
    """The trials of one seed, with their results in `out`."""

    def __init__(self, out: Path, seed: int, services: Services) -> None:
        self.out, self.seed, self.services = out, seed, services
        self.config = write_workload(out)
        self._lock = threading.Lock()
        self.done = {one.number for one in read_results(out)}

    def reference(self, subject: Subject) -> dict[str, str]:
        path = self.out / f"undisturbed-{subject}.json"
        with self._lock:
            if not path.exists():
                folder = self.out / "work"
                found = undisturbed(subject, services=self.services, config=self.config, folder=folder)
                path.write_text(json.dumps(found))
            made: dict[str, str] = json.loads(path.read_text())
            return made

    def run(self, number: int) -> Result:
        """The trial of this number; its result is written down."""
        fault, draws = draw_fault(self.seed, number)
        result = self.trial(number, fault, draws)
        with self._lock, (self.out / RESULTS).open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            self.done.add(number)
        return result

    def trial(self, number: int, fault: Fault, draws: random.Random) -> Result:
        reference = self.reference(fault.subject)
        return run_trial(
            number,
            fault,
            draws,
            services=self.services,
            config=self.config,
            reference=reference,
            folder=self.out / "work",
        )


def read_results(out: Path) -> list[Result]:
    path = out / RESULTS
    lines = path.read_text().splitlines() if path.exists() else []
    return [Result(**json.loads(line)) for line in lines]
