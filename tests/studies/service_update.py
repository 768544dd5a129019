"""Another model under load, where there is room for one engine more: nobody should notice."""

import asyncio
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from ray import serve as ray_serve

from drsft.bench.serving.servers import free_port
from drsft.config.configfile import load_settings
from drsft.policy.prompts import model_location
from drsft.stages.cluster import connected
from serve.app import build_app
from serve.settings import ServeConfig
from tests.studies.service_load import Load, load_client, open_loop

__all__ = ["Update", "bench_update"]

LIMIT_S = 300.0
ROOM = [  # for a second engine and a second ingress on two cores
    "start_before_stop=true",
    "resources.cpus_per_actor=0.5",
    "cpus_per_ingress=0.25",
    "score_phi=false",
    "access={open_on_loopback: true, requests_per_minute: 1000000, tokens_per_minute: 1000000000}",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """`models` are those that /version told of while it went on, in their order."""

    seconds: float
    load: Load
    models: tuple[str, ...]


def bench_update(config: Path, folder: Path, *, per_s: float) -> Update:
    """`per_s` requests a second from before the update to after it."""
    old = load_settings(ServeConfig, config, ROOM)
    copied = folder / "another-model"
    shutil.copytree(model_location(old.target.model), copied)
    new = old.model_copy(update={"target": old.target.model_copy(update={"model": str(copied)})})
    port = free_port()
    with connected():
        ray_serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": None})
        ray_serve.run(build_app(old), name="drsft", route_prefix="/")
        with _under_load(f"http://127.0.0.1:{port}", per_s) as (load, models):
            started_s = time.perf_counter()
            ray_serve.run(build_app(new), name="drsft", route_prefix="/")
            seconds = time.perf_counter() - started_s
        ray_serve.shutdown()
    names = {old.target.model: "old", str(copied): "new"}
    told = tuple(names[model] for model, _ in itertools.groupby(models))
    return Update(seconds=seconds, load=load, models=told)


@contextmanager
def _under_load(url: str, per_s: float) -> Iterator[tuple[Load, list[str]]]:
    """From two seconds before the block to two seconds after it."""
    load, models, ended = Load(), [], threading.Event()  # type: ignore[var-annotated]

    async def run() -> None:
        async with load_client(url) as client:
            requests = open_loop(
                client, itertools.count(), per_s=per_s, seconds=LIMIT_S, is_over=ended.is_set, load=load
            )
            asking = asyncio.create_task(_models(client, models))
            await requests
            asking.cancel()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        time.sleep(2)
        yield load, models
        time.sleep(2)
    finally:
        ended.set()
        thread.join()


async def _models(client: aiohttp.ClientSession, models: list[str]) -> None:
    while True:
        async with client.get("/version") as answer:
            models.append((await answer.json())["model"])
        await asyncio.sleep(0.2)
