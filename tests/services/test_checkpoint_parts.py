"""Checkpoints on a real object store: each process reads its own part, and memory is bounded by it."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from drsft.storage import S3Store
from drsft.train.checkpoint import Checkpointer, load_latest
from drsft.train.world import World
from tests.support.memory import peak_bytes, restart_peak

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUM_WORKERS, SIZE, NUM_LAYERS = 4, 2048, 16  # shares of 201 MB, beside which buffers are small
STATE_BYTES = 3 * 4 * NUM_LAYERS * SIZE * (SIZE + 1)  # weights and AdamW's two moments in fp32


class CountingStore(S3Store):
    """Counts the bytes that it reads."""

    num_read = 0

    def within(self, prefix: str) -> "CountingStore":
        return CountingStore(f"{self.url}/{prefix}")

    def read(self, key: str) -> bytes:
        return self._counted(super().read(key))

    def read_range(self, key: str, *, start: int, length: int) -> bytes:
        return self._counted(super().read_range(key, start=start, length=length))

    @staticmethod
    def _counted(data: bytes) -> bytes:
        CountingStore.num_read += len(data)
        return data


def sharded(world: World, *, seed: int, size: int = SIZE) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Layers that no process ever holds whole."""
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(size, size) for _ in range(NUM_LAYERS)))
    mesh = init_device_mesh("cpu", (world.size,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    torch.manual_seed(seed + world.rank)
    for parameter in model.parameters():
        nn.init.normal_(parameter.to_local())  # type: ignore[attr-defined]  # sharded ones are DTensors
    return model, torch.optim.AdamW(model.parameters())


def sums_of(model: nn.Module) -> list[float]:
    return [parameter.to_local().sum().item() for parameter in model.parameters()]  # type: ignore[attr-defined]


def save(world: World, store: CountingStore, *, size: int = SIZE) -> dict[str, Any]:
    model, optimiser = sharded(world, seed=0, size=size)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    optimiser.zero_grad()
    checkpointer = Checkpointer(store, world, num_kept=1)
    checkpointer.save(model, optimiser, step=1)
    checkpointer.finish()
    return {"sums": sums_of(model)}


def resume(world: World, store: CountingStore) -> dict[str, Any]:
    """In a process that has held no such model before, but has loaded what a first resume loads."""
    save(world, store.within("warm-up"), size=8)
    load_latest(store.within("warm-up"), *sharded(world, seed=0, size=8), world=world)
    held_bytes, CountingStore.num_read = restart_peak(), 0
    model, optimiser = sharded(world, seed=100)
    assert load_latest(store, model, optimiser, world=world) == 1
    peak = peak_bytes() - held_bytes
    return {"sums": sums_of(model), "read": CountingStore.num_read, "peak": peak}


def work(rank: int, folder: Path, url: str, name: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous-{name}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=NUM_WORKERS)
    found = {"save": save, "resume": resume}[name](World.current(), CountingStore(url))
    (folder / f"{name}-{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture
def url(object_store: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return f"{object_store.url}/{uuid.uuid4().hex}"


@pytest.mark.timeout(900)  # eight processes start, and import torch
def test_a_process_reads_its_share_and_needs_little_beside_it(url: str, tmp_path: Path) -> None:
    for name in ("save", "resume"):
        mp.spawn(work, (tmp_path, url, name), nprocs=NUM_WORKERS)
    share = STATE_BYTES / NUM_WORKERS
    for rank in range(NUM_WORKERS):
        saved, found = (
            json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for name in ("save", "resume")
        )
        print(f"rank {rank}: read {found['read'] / share:.3f}, peak {found['peak'] / share:.3f} of its share")
        assert found["sums"] == saved["sums"]
        assert found["read"] <= 1.1 * share
        assert found["peak"] <= 1.5 * share


UPLOAD = """
import sys
from pathlib import Path
from drsft.storage import open_store
from tests.support.memory import peak_bytes, restart_peak
store, small, large = open_store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
store.put_file("first", small)
held = restart_peak()
store.put_file("upload", large)
print(peak_bytes() - held)
"""


def test_the_memory_of_an_upload_does_not_depend_on_its_size(url: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(1 << 20))
    peaks = []
    for mib in (64, 512):
        path = tmp_path / str(mib)
        with path.open("wb") as file:
            file.truncate(mib << 20)
        command = [sys.executable, "-c", UPLOAD, url, str(small), str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        peaks.append(int(told.stdout.split()[-1]))
        assert S3Store(url).read_range("upload", start=(mib << 20) - 4, length=100) == bytes(4)
    print(f"peak of an upload of 64 MiB {peaks[0] >> 20} MiB, of 512 MiB {peaks[1] >> 20} MiB")
    assert peaks[1] <= peaks[0] + (64 << 20)  # of 448 MiB more
