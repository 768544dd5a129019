"""The frozen start, and the model's own log-probs, beside a model that FSDP has in half precision."""

from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor

from drsft.config import Lora, Objective
from drsft.config.objectives import Asft, IwSftToken, Psft, SftKl
from drsft.objectives.meters import metrics_of
from drsft.storage import LocalStore
from drsft.train.checkpoint import Checkpointer, load_latest
from drsft.train.lora import add_adapters
from drsft.train.micro_batch import micro_batch
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.policy_snapshot import take_snapshot
from drsft.train.prepare import prepare_model, prepare_start
from drsft.train.reference import References, frozen_start, gather_references
from drsft.train.step import accumulate_gradient, train_step
from drsft.train.world import World
from tests.support.train import make_rows, make_training, save_tiny_model
from tests.train.test_loop import TRAIN

NUM_EXAMPLES = 14


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=False)


@pytest.mark.usefixtures("group_of_one")
def test_a_start_in_half_precision_is_kept_so_and_says_what_the_policy_says(location: str) -> None:
    training = make_training(location, make_rows(NUM_EXAMPLES), TRAIN, Asft(), compute_dtype=torch.bfloat16)
    policy, start = prepare_model(training), prepare_start(training)
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in start.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in start.buffers()} == {torch.float32}
    rows = make_rows(NUM_EXAMPLES)
    batch = micro_batch(rows, [0, 1], torch.device("cpu"))
    with torch.no_grad():
        hidden_ND, weight_VD, _ = policy(*batch.inputs, None)
    compared = frozen_start(policy, batch, References(start_model=start))
    assert torch.equal(compared.hidden_ND, hidden_ND)
    assert torch.equal(compared.head.weight_VD, weight_VD)


@pytest.mark.usefixtures("group_of_one")
def test_a_start_lies_in_shards_again_once_it_was_compared_with(location: str) -> None:
    training = make_training(location, make_rows(NUM_EXAMPLES), TRAIN, Asft(), compute_dtype=torch.bfloat16)
    policy, start = prepare_model(training), prepare_start(training)
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


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("objective", [IwSftToken(), Psft()], ids=lambda objective: objective.kind)
def test_compared_with_itself_every_weight_is_1_in_half_precision_too(
    location: str, objective: Objective
) -> None:
    # A row by itself is the same forward, bit for bit, whenever it is made.
    train = TRAIN.model_copy(update={"micro_batch_rows": 1})
    training = make_training(
        location, make_rows(NUM_EXAMPLES), train, objective, compute_dtype=torch.bfloat16
    )
    model = prepare_model(training)
    references = gather_references(training, model, None)
    assert references.start_model is None, "none is needed"
    references = take_snapshot(training, references, model, 0)
    metrics = train_step(training, model, make_optimiser(model, train), 0, references=references)
    assert metrics["mean_weight"] == metrics["effective_sample_size"] == 1


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("by_block", [False, True])
@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("objective", [Asft(), SftKl()], ids=lambda objective: objective.kind)
def test_adapters_that_are_off_for_their_start_learn_and_are_kept_in_shards(
    location: str, tmp_path: Path, objective: Objective, compute_dtype: torch.dtype, by_block: bool
) -> None:
    train = TRAIN.model_copy(update={"lora": Lora(rank=4), "learning_rate": 3e-2})
    training = make_training(location, make_rows(NUM_EXAMPLES), train, objective)

    def adapted() -> tuple[ScoringModel, torch.optim.Optimizer]:
        causal_lm = load_model(location).train()
        add_adapters(causal_lm, Lora(rank=4), seed=0)
        model = ScoringModel(causal_lm)
        shard(model, World(), compute_dtype=compute_dtype, by_block=by_block)
        return model, make_optimiser(model, train)

    def adapters(model: ScoringModel) -> dict[str, torch.Tensor]:
        return {name: weight.full_tensor() for name, weight in model.state_dict().items() if "lora_" in name}

    model, optimiser = adapted()
    metrics = [train_step(training, model, optimiser, step) for step in range(2)]
    assert metrics[0]["kl"] == pytest.approx(0, abs=1e-6), "untrained, it is its start"
    assert metrics[1]["kl"] > 1e-3, "trained, it is not"
    store = LocalStore(tmp_path)
    checkpointer = Checkpointer(store, World(), num_kept=1)
    checkpointer.save(model, optimiser, step=2)
    checkpointer.finish()
    resumed, other_optimiser = adapted()
    assert load_latest(store, resumed, other_optimiser, world=World()) == 2
    assert adapters(resumed).keys() == adapters(model).keys()
    torch.testing.assert_close(adapters(resumed), adapters(model), rtol=0, atol=0)
    assert all(weight.any() for weight in adapters(resumed).values())
