"""The frozen start beside a model that is computed in half precision."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from test_train_loop import TRAIN
from torch.distributed.tensor import DTensor
from train_support import make_rows, save_tiny_model

from drsft.config.objectives import Asft
from drsft.objectives.meters import metrics_of
from drsft.train.loop import Target, prepare, prepare_start
from drsft.train.micro_batch import micro_batch
from drsft.train.reference import References, frozen_start
from drsft.train.step import accumulate_gradient
from drsft.train.world import World

NUM_EXAMPLES = 14


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=False)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    World().ensure_process_group()
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_a_start_in_half_precision_is_kept_so_and_says_what_the_policy_says(location: str) -> None:
    target = Target(location=location, compute_dtype=torch.bfloat16)
    policy, start = prepare(target, TRAIN, World()), prepare_start(target, World())
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in start.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in start.buffers()} == {torch.float32}
    rows = make_rows(NUM_EXAMPLES)
    batch = micro_batch(rows, [0, 1], torch.device("cpu"))
    with torch.no_grad():
        hidden_ND, weight_VD, _ = policy(*batch.inputs, None)
    compared = frozen_start(policy, batch, References(start_model=start))
    assert torch.equal(compared.hidden_TD, hidden_ND)
    assert torch.equal(compared.head.weight_VD, weight_VD)


@pytest.mark.usefixtures("group_of_one")
def test_a_start_lies_in_shards_again_once_it_was_compared_with(location: str) -> None:
    target = Target(location=location, compute_dtype=torch.bfloat16)
    policy, start = prepare(target, TRAIN, World()), prepare_start(target, World())
    rows = make_rows(NUM_EXAMPLES)
    everything, references = list(range(len(rows))), References(start_model=start)
    sums, _ = accumulate_gradient(
        policy,
        everything,
        objective=Asft(),
        references=references,
        train=TRAIN,
        rows=rows,
        world=World(),
    )
    assert metrics_of(sums)["kl"] == pytest.approx(0, abs=1e-6), "untrained, it is its start"
    assert all(isinstance(parameter, DTensor) for parameter in start.parameters())
