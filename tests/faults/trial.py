"""One trial: a run, one fault at a random moment, the same command until it has finished, and the checks."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drsft.config.configfile import load_config
from drsft.storage import open_store
from tests.faults.checks import (
    Ended,
    Subject,
    clear_end,
    left_over,
    observe,
    still_alive,
    wrong_records,
)
from tests.faults.faults import FAULTS, Fault, Place
from tests.faults.object_store import client
from tests.faults.reader import Reader
from tests.faults.scene import Scene, Services, environment_of
from tests.faults.workload import NUM_SHARDS, SHARDS_IN_FLIGHT, Journal

__all__ = ["BUCKET", "MOTO_BUCKET", "Result", "draw_fault", "run_trial", "undisturbed"]

BUCKET, MOTO_BUCKET = "drsft-faults", "drsft-faults-moto"
DISK_BYTES = 4 << 20
MOST_STARTS = 4  # of the same command, until it has to have finished
START_S = 6.0  # of a driver, roughly: moments before the first commit are drawn from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`troubles` by kind; no trouble at all is what is promised."""

    number: int
    fault: str
    place: Place
    num_actors: int
    moment: str
    end: str  # of the first driver: finished, killed, clear error, unclear
    code: int | None
    num_starts: int
    shards_redone: int
    num_hits: int  # requests that the proxy disturbed
    wall_s: float
    last_line: str
    troubles: dict[str, list[str]] = field(default_factory=dict)


def draw_fault(seed: int, number: int) -> tuple[Fault, random.Random]:
    """The fault of a trial, from a shuffled deck that has each as often as its weight; draws for the rest."""
    deck = [fault for fault in FAULTS for _ in range(fault.weight)]
    random.Random(seed).shuffle(deck)
    return deck[number % len(deck)], random.Random(f"{seed}/{number}")


def run_trial(
    number: int,
    fault: Fault,
    draws: random.Random,
    *,
    services: Services,
    config: Path,
    reference: Mapping[str, str],
    folder: Path,
) -> Result:
    """Leaves nothing of the trial where it was without trouble, else its folder."""
    began_s = time.monotonic()
    place, num_actors = draws.choice(fault.places), draws.choice((1, 1, 2))
    scope = f"trial-{number:04d}-{draws.randrange(1 << 24):06x}"
    with _scene(scope, place, num_actors, draws, services, config, folder) as scene:
        scene.environment.update(fault.environment)
        _prepare(scene, fault.subject)
        fault.prepare(scene)
        with Reader(scene.run) as reader:
            driver = scene.start()
            moment = _wait_for_moment(scene) if fault.subject != "training" else "after a checkpoint"
            if moment != "missed":
                fault.act(scene)
            scene.verifiers()
            first = driver.end()
            scene.verifiers()
            fault.heal(scene)
            ends = [first]
            while not scene.has_finished and len(scene.drivers) < MOST_STARTS:
                ends.append(scene.start().end())
        partial = [one for one in reader.found if scene.damaged is None or scene.damaged not in one]
        troubles = _troubles(scene, fault, ends, reference, num_actors) | {"partial": partial}
        hits = services.proxy.forget(scope)
        result = Result(
            number=number,
            fault=fault.name,
            place=place,
            num_actors=num_actors,
            moment=moment,
            end=_describe(first, fault),
            code=None if first is None else first.code,
            num_starts=len(scene.drivers),
            shards_redone=scene.journal.shards_redone(),
            num_hits=hits,
            wall_s=round(time.monotonic() - began_s, 1),
            last_line=(driver.said.strip().splitlines() or [""])[-1][:300],
            troubles={kind: found for kind, found in troubles.items() if found},
        )
    if not result.troubles:
        shutil.rmtree(folder / scope)
    return result


def undisturbed(subject: Subject, *, services: Services, config: Path, folder: Path) -> dict[str, str]:
    """What every run must have in the end. Raises RuntimeError when it does not finish by itself."""
    draws = random.Random(0)
    with _scene(f"undisturbed-{subject}", "folder", 2, draws, services, config, folder) as scene:
        _prepare(scene, subject)
        ended = scene.start().end()
        if ended is None or ended.code != 0 or scene.num_commits() != NUM_SHARDS:
            raise RuntimeError(f"the undisturbed run failed: {ended}")
        return observe(scene.run, subject)


def _prepare(scene: Scene, subject: Subject) -> None:
    """What comes before the first start: a training needs records."""
    if subject == "engine":
        scene.environment["FAULTS_ENGINE"] = "1"
    if subject == "training":
        scene.start().end()
        scene.drivers.clear()
        scene.command[0] = "train"


@contextmanager
def _scene(
    scope: str,
    place: Place,
    num_actors: int,
    draws: random.Random,
    services: Services,
    config: Path,
    folder: Path,
) -> Iterator[Scene]:
    home = folder / scope
    shutil.rmtree(home, ignore_errors=True)  # of a trial that was cut off
    runs, small = home / "runs", home / "small"
    temp = small / "tmp" if place == "temp" else home / "tmp"
    runs.mkdir(parents=True)
    disk = {"disk": runs, "temp": small}.get(place)
    buckets = {"s3": BUCKET, "temp": BUCKET, "moto": MOTO_BUCKET}
    storage = f"s3://{buckets[place]}/{scope}" if place in buckets else str(runs)
    overrides = [f"storage={storage}", f"resources.rewrite_actors={num_actors}"]
    run_id = load_config(config, overrides).run_id
    if disk is not None:
        disk.mkdir(exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
        subprocess.run(["mount", *options], check=True)
    temp.mkdir()
    try:
        yield Scene(
            services=services,
            draws=draws,
            scope=scope,
            run=open_store(storage).within(run_id),
            home=home,
            disk=disk,
            journal=Journal(home / "journal"),
            temp=temp,
            stdout=(small if place == "temp" else home) / "stdout",
            command=["rewrite", str(config), *overrides],
            environment={
                **environment_of(services, services.proxy.url),
                "FAULTS_JOURNAL": str(home / "journal"),
            },
        )
    finally:
        if disk is not None:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _wait_for_moment(scene: Scene) -> str:
    """Before the first commit, or soon after some commit; missed, where the driver was quicker."""
    draws, commits = scene.draws, scene.draws.randrange(NUM_SHARDS)
    if commits == 0:
        is_there = scene.wait_for(lambda: "problems" in scene.driver.said)
        delay_s = draws.uniform(0, START_S)
        moment = f"{delay_s:.1f} s after planning"
    else:
        is_there = scene.wait_for(lambda: scene.num_commits() >= commits)
        delay_s = draws.uniform(0, 0.4)
        moment = f"{delay_s:.2f} s after commit {commits} of {NUM_SHARDS}"
    time.sleep(delay_s)
    return moment if is_there and scene.driver.is_running else "missed"


def _troubles(
    scene: Scene, fault: Fault, ends: list[Ended | None], reference: Mapping[str, str], num_actors: int
) -> dict[str, list[str]]:
    judged = [end for i, end in enumerate(ends) if not (i == 0 and fault.kills_driver and _was_killed(end))]
    unclear = ["a driver hung" if end is None else clear_end(end) for end in judged]
    troubles = {"unclear": scene.unclear + [one for one in unclear if one is not None]}
    codes = [driver.process.exitcode for driver in scene.drivers]
    troubles["unfinished"] = [] if scene.has_finished else [f"exit codes {codes}"]
    troubles |= wrong_records(scene.run, fault.subject, reference)
    most = num_actors * SHARDS_IN_FLIGHT * max(1, len(scene.drivers) - 1)
    if (redone := scene.journal.shards_redone()) > most:
        troubles["too much redone"] = [f"{redone} shards, {most} in flight"]
    scene.actors()
    troubles["orphans"] = still_alive(scene.processes.values())
    troubles["left over"] = left_over(scene.run, scene.temp, client(scene.services.quiet_url))
    return troubles


def _was_killed(end: Ended | None) -> bool:
    return end is not None and end.code == -9


def _describe(end: Ended | None, fault: Fault) -> str:
    if end is None:
        return "hung"
    if end.code == 0:
        return "finished"
    if fault.kills_driver and _was_killed(end):
        return "killed"
    return "clear error" if clear_end(end) is None else "unclear"
