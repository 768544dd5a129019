"""The faults: what is done to a run at its moment. Weights are how often each is drawn."""

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

from drsft.run.shards import ShardSet
from tests.faults.checks import Subject, clear_end
from tests.faults.page_reader import Manner, SlowReader
from tests.faults.proxy import Misdeed, Rule
from tests.faults.scene import Scene

__all__ = ["FAULTS", "Fault", "Place"]

# disk: a folder on a small file system of its own; temp: in S3, with the drivers' own files on such a one
Place = Literal["folder", "s3", "moto", "disk", "temp"]


def nothing(scene: Scene) -> None:
    """Where the fault is elsewhere, or over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`act` does it and returns when the driver can be waited for; `heal` mends what the user would mend.

    `prepare` comes before the first start.
    """

    name: str
    prepare: Callable[[Scene], None] = nothing
    act: Callable[[Scene], None] = nothing
    heal: Callable[[Scene], None] = nothing
    weight: int
    places: tuple[Place, ...] = ("folder", "s3", "moto")
    is_alone: bool = False  # it disturbs what all trials share
    kills_driver: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    subject: Subject = "records"


def kill_driver(scene: Scene) -> None:
    os.kill(scene.driver.pid, signal.SIGKILL)


def terminate_driver(scene: Scene) -> None:
    os.kill(scene.driver.pid, signal.SIGTERM)


def send_many_signals(scene: Scene) -> None:
    """As supervisors, shells and timeout(1) do: up to twenty, from microseconds to a second apart."""
    for _ in range(scene.draws.randint(2, 20)):
        with suppress(ProcessLookupError):
            os.kill(scene.driver.pid, scene.draws.choice((signal.SIGTERM, signal.SIGHUP)))
        time.sleep(scene.draws.choice((0, 0.0002, 0.02, 0.2, 1)))


def kill_actor(scene: Scene) -> None:
    if scene.wait_for(lambda: bool(scene.actors())):
        alive = scene.actors()
        _signal(scene.draws.sample(alive, k=min(1, len(alive))), signal.SIGKILL)


def kill_engine(scene: Scene) -> None:
    """An actor of the policy that was not replaced, which keeps no journal."""
    actors = [one for one in scene.services.cluster.workers("node") if "RewritingActor" in one.cmdline()[0]]
    for one in actors[:1]:
        one.send_signal(signal.SIGKILL)


def kill_training_worker(scene: Scene) -> None:
    """Once it has saved something: it must go on from there."""
    if scene.wait_for(lambda: any("/checkpoints/" in key for key in scene.run.keys("train"))):
        time.sleep(scene.draws.uniform(0, 1))
        workers = [one for one in scene.services.cluster.workers("node") if "TrainWorker" in one.cmdline()[0]]
        for one in workers[:1]:
            one.send_signal(signal.SIGKILL)


def kill_verifier(scene: Scene) -> None:
    if scene.wait_for(lambda: bool(scene.verifiers())):
        for one in scene.verifiers()[:1]:
            one.send_signal(signal.SIGKILL)


def stop_driver(scene: Scene) -> None:
    """It returns when another has taken over and done its work."""
    _replace_while_stopped(scene, [psutil.Process(scene.driver.pid)])


def stop_job(scene: Scene) -> None:
    """The same for the driver and its actors, which return in the middle of their shards."""
    scene.wait_for(lambda: bool(scene.actors()))
    _replace_while_stopped(scene, [*scene.actors(), psutil.Process(scene.driver.pid)])


def _replace_while_stopped(scene: Scene, stopped: list[psutil.Process]) -> None:
    _signal(stopped, signal.SIGSTOP)
    try:
        scene.start().end()
    finally:
        _signal(stopped, signal.SIGCONT)


def pause_actor(scene: Scene) -> None:
    if scene.wait_for(lambda: bool(scene.actors())):
        paused = scene.actors()[:1]
        _signal(paused, signal.SIGSTOP)
        time.sleep(scene.draws.uniform(2, 8))
        _signal(paused, signal.SIGCONT)


def pause_driver(scene: Scene) -> None:
    """Longer than its lease holds, but nobody else comes."""
    paused = [psutil.Process(scene.driver.pid)]
    _signal(paused, signal.SIGSTOP)
    time.sleep(scene.draws.uniform(5, 8))
    _signal(paused, signal.SIGCONT)


def _signal(processes: list[psutil.Process], number: int) -> None:
    for one in processes:
        try:
            one.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def limit_memory(scene: Scene) -> None:
    """An actor gets no more address space than it has now."""
    if scene.wait_for(lambda: bool(scene.actors())):
        for one in scene.actors()[:1]:
            limit = one.memory_info().vms + (1 << 20)
            one.rlimit(resource.RLIMIT_AS, (limit, limit))


def kill_node(scene: Scene) -> None:
    """The machine of the actors goes; another comes."""
    scene.services.cluster.kill("node")
    scene.services.cluster.start_node()


def replace_node(scene: Scene) -> None:
    """The machine of the actors hangs; another comes and has their work; then the first one goes on."""
    if scene.wait_for(lambda: bool(scene.actors())):
        num_before = len(scene.journal.actors())
        stopped = scene.services.cluster.hang_node()
        try:
            scene.services.cluster.start_node()
            scene.wait_for(lambda: len(scene.journal.actors()) > num_before)
            time.sleep(scene.draws.uniform(0, 3))
        finally:
            _signal(stopped, signal.SIGCONT)


def kill_raylet(scene: Scene) -> None:
    """Ray's daemon alone; what it started must notice."""
    scene.services.cluster.kill_process("node", "raylet")
    scene.services.cluster.start_node()


def kill_head(scene: Scene) -> None:
    """The machine of the cluster's memory goes, and with it the cluster."""
    scene.services.cluster.kill("head")


def start_cluster_again(scene: Scene) -> None:
    cluster = scene.services.cluster
    cluster.stop()
    cluster.start_head()
    cluster.start_node()


def kill_store(scene: Scene) -> None:
    scene.services.ceph.kill()
    time.sleep(scene.draws.uniform(0, 3))
    scene.services.ceph.start()


def fill_disk(scene: Scene) -> None:
    assert scene.disk is not None
    with (scene.disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def empty_disk(scene: Scene) -> None:
    assert scene.disk is not None
    (scene.disk / "ballast").unlink(missing_ok=True)


def change_bytes(scene: Scene) -> None:
    """One bit of the data of a shard that is committed."""
    if scene.wait_for(lambda: scene.num_commits() > 0):
        commits = ShardSet(scene.run, "rewrite").commits()
        scene.damaged = commits[scene.draws.choice(sorted(commits))].data_key
        data = bytearray(scene.run.read(scene.damaged))
        data[scene.draws.randrange(len(data))] ^= 1 << scene.draws.randrange(8)
        scene.run.put(scene.damaged, bytes(data))


def use_and_mend(scene: Scene) -> None:
    """The next stage must refuse the changed shard by its name and go no further; rewriting does it again."""
    if scene.damaged is None:
        return
    scene.command[0] = "gap"
    ended = scene.start().end()
    if ended is None or ended.code == 0 or f"{scene.damaged} is damaged" not in ended.said:
        scene.unclear.append(f"changed bytes were not told: {ended}")
    elif (reason := clear_end(ended)) is not None:
        scene.unclear.append(reason)
    scene.command[0] = "rewrite"
    scene.start().end()


def serve_page(scene: Scene) -> None:
    """All stages but training, with the live page."""
    _, config, *overrides = scene.command
    scene.command[:] = ["run", config, "--live", "--port=0", *overrides, "train.arms=[]"]


def read_slowly(scene: Scene) -> None:
    """Readers of the page that take a few bytes a second, none at all, or go away in the middle."""
    if scene.wait_for(lambda: "live report: " in scene.driver.said):
        url = scene.driver.said.partition("live report: ")[2].split()[0]
        scene.readers += [SlowReader(url, manner) for manner in Manner for _ in range(3)]


def stop_reading(scene: Scene) -> None:
    for one in scene.readers:
        one.close()
    if scene.readers and "Traceback" in scene.driver.said:
        scene.unclear.append("a traceback on the terminal because of a page's reader")


def misbehave(misdeed: Misdeed) -> Callable[[Scene], None]:
    """The store or the way to it, for a share of the trial's requests and some seconds."""

    def act(scene: Scene) -> None:
        draws = scene.draws
        until_s = time.monotonic() + draws.uniform(0.5, 6)
        share = draws.choice((0.2, 0.5, 1.0))
        rule = Rule(misdeed=misdeed, scope=scene.scope, share=share, until_s=until_s, draws=draws)
        scene.services.proxy.rules.append(rule)

    return act


FAULTS = (
    Fault(name="driver killed", act=kill_driver, weight=18, kills_driver=True),
    Fault(name="driver told to end (SIGTERM)", act=terminate_driver, weight=12),
    Fault(name="driver told to end by many signals", act=send_many_signals, weight=8),
    Fault(name="driver stopped, another takes over, it returns", act=stop_driver, weight=8),
    Fault(name="driver and actors stopped, another takes over, they return", act=stop_job, weight=8),
    Fault(name="driver stopped for longer than its lease", act=pause_driver, weight=5),
    Fault(name="actor stopped for some seconds", act=pause_actor, weight=6),
    Fault(name="rewriting actor killed", act=kill_actor, weight=20),
    Fault(name="verifier's process killed", act=kill_verifier, weight=12),
    Fault(name="actor's memory limit hit", act=limit_memory, weight=8),
    Fault(name="node killed", act=kill_node, weight=5, is_alone=True),
    Fault(name="node hangs, is replaced, returns", act=replace_node, weight=5, is_alone=True),
    Fault(name="raylet killed", act=kill_raylet, weight=5, is_alone=True),
    Fault(name="head killed", act=kill_head, heal=start_cluster_again, weight=6, is_alone=True),
    Fault(name="S3 server killed", act=kill_store, weight=9, places=("s3",), is_alone=True),
    Fault(name="disk full", act=fill_disk, heal=empty_disk, weight=8, places=("disk",)),
    Fault(name="disk full on the driver", act=fill_disk, heal=empty_disk, weight=6, places=("temp",)),
    Fault(name="bytes of a committed shard changed", act=change_bytes, heal=use_and_mend, weight=12),
    Fault(
        name="slow readers of the live page", prepare=serve_page, act=read_slowly, heal=stop_reading, weight=6
    ),
    *(
        Fault(name=misdeed.value, act=misbehave(misdeed), weight=9, places=("s3", "moto"))
        for misdeed in Misdeed
    ),
    Fault(name="actor with a real engine killed", act=kill_engine, weight=3, is_alone=True, subject="engine"),
    Fault(
        name="training worker killed", act=kill_training_worker, weight=4, is_alone=True, subject="training"
    ),
    Fault(name="clock stepped forward an hour", weight=4, environment={"FAULTS_CLOCK_S": "3600"}),
    Fault(name="clock stepped back an hour", weight=4, environment={"FAULTS_CLOCK_S": "-3600"}),
    Fault(name="clock stepped forward a day", weight=4, environment={"FAULTS_CLOCK_S": "86400"}),
    Fault(name="clock stepped back a day", weight=4, environment={"FAULTS_CLOCK_S": "-86400"}),
)
