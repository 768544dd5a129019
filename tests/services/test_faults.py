"""The short form of the fault suite: a few of its trials, as `make faults` runs hundreds (docs/faults.md)."""

import random
from collections.abc import Iterator

import pytest

from tests.faults.faults import FAULTS
from tests.faults.object_store import MOTO, missing_programs
from tests.faults.suite import Suite, running_services

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.timeout(600)]

CHOSEN = ("rewriting actor killed", "replies lost")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    if missing := missing_programs(MOTO):
        how = "Debian: radosgw ceph-mon ceph-osd; make try-second-store"
        pytest.skip(f"no S3 server: {', '.join(missing)} not installed ({how})")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_MAX_ATTEMPTS", raising=False)  # as the other tests have it, for errors' sake
        with running_services(patch.setenv) as services:
            yield Suite(tmp_path_factory.mktemp("faults"), 0, services)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_run_in_s3_survives_a_fault(suite: Suite, name: str) -> None:
    [fault] = [one for one in FAULTS if one.name == name]
    result = suite.trial(0, fault, random.Random(name))
    assert result.troubles == {}
    assert result.num_starts <= 2
