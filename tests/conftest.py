"""What every test shares: no hub, no token file in the home directory, one thread for each engine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from drsft.policy.prompts import Prompter
    from drsft.verify.pool import VerifierPool

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")  # a server that is not there is not waited for
os.environ.pop("RAY_ADDRESS", None)

# Properties get a few inputs, the same in every run; `make fuzz` draws many at random. How fast they are
# drawn depends on what else the machine does, and no test asserts a time.
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "short", max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=_CHECKS
)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("DRSFT_FUZZ_EXAMPLES", "2000")),
    deadline=None,
    suppress_health_check=_CHECKS,
)
settings.load_profile(os.environ.get("DRSFT_FUZZ", "short"))

# Files that take minutes. Begun last, each would keep one process busy while the others have nothing to do.
LONGEST_FILES = (
    "ray/test_training.py",
    "ray/test_job.py",
    "ray/test_evaluation.py",
    "services/test_serve_app.py",
    "ray/test_runs.py",
    "ray/test_engine_deaths.py",
    "services/test_faults.py",
    "services/test_object_store.py",
    "ray/test_two_rounds.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; xdist keeps this order only with --no-loadscope-reorder."""
    rank = {Path(__file__).parent / file: place for place, file in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="module")
def prompter() -> "Prompter":
    """Of the embedded model, with the prompts that a configuration has by itself."""
    from drsft.config import Prompts
    from drsft.policy.prompts import load_prompter

    return load_prompter("embedded", Prompts())


@pytest.fixture(scope="module")
def verifier() -> "Iterator[VerifierPool]":
    from drsft.verify.pool import VerifierPool

    with VerifierPool() as pool:
        yield pool


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder that `make real-model` makes, or a skip that says so."""
    folder = Path(__file__).parents[1] / "models/smollm2-135m-instruct"
    if not (folder / "config.json").exists():
        pytest.skip(f"{folder.relative_to(folder.parents[1])} is missing: make real-model")
    return folder


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """What FSDP wants even for this process alone."""
    import torch.distributed as dist

    from drsft.train.world import World

    World().ensure_process_group()
    yield
    dist.destroy_process_group()
