"""The start of a training on four gloo processes: the right weights everywhere, and no copy for each."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.config import Lora, Sft
from drsft.errors import ModelError
from drsft.train.job import Training
from drsft.train.model import load_model
from drsft.train.prepare import prepare_model, prepare_start
from drsft.train.weights import stored_dtype
from drsft.train.world import World
from tests.support.memory import held_bytes
from tests.support.train import make_rows, make_training
from tests.train.test_loop import TRAIN

pytestmark = pytest.mark.slow

NUM_WORKERS = 4
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def save_model(folder: Path, dtype: torch.dtype) -> None:
    """46M parameters; three key-value heads of 64 and 8,001 tokens do not divide by four."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=8001,
        hidden_size=768,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
        num_key_value_heads=3,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )
    Qwen2ForCausalLM(config).to(dtype).save_pretrained(folder)


def training_of(folder: Path, name: str, world: World) -> Training:
    return make_training(
        str(folder / name), make_rows(4), TRAIN, Sft(), compute_dtype=torch.bfloat16, world=world
    )


def work(rank: int, folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous-{name}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=NUM_WORKERS)
    world = World.current()
    training = training_of(folder, name, world)
    prepare_model(make_training(str(folder / "tiny"), make_rows(4), TRAIN, Sft(), world=world))
    (folder / f"ready-{name}-{rank}").touch()
    while not world.from_first((folder / f"go-{name}").exists()):
        pass
    model = prepare_model(training)
    (folder / f"done-{name}-{rank}").touch()
    while not world.from_first((folder / f"end-{name}").exists()):
        pass
    start = prepare_start(training)
    wanted = dict(load_model(str(folder / name)).named_parameters())
    for found, dtype in ((model, torch.float32), (start, torch.bfloat16)):
        for parameter_name, parameter in found.causal_lm.named_parameters():
            assert isinstance(parameter, DTensor)
            assert parameter.dtype == dtype
            assert parameter.requires_grad == (found is model)
            assert torch.equal(parameter.full_tensor(), wanted[parameter_name].to(dtype)), parameter_name
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    for name, dtype in DTYPES.items():
        save_model(folder / name, dtype)
    tiny = Qwen2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    Qwen2ForCausalLM(tiny).save_pretrained(folder / "tiny")
    return folder


@pytest.mark.parametrize("name", DTYPES)
def test_the_host_holds_little_more_than_one_copy(folder: Path, name: str) -> None:
    """Beside the files that are mapped: the system drops those when it wants the memory."""
    workers = mp.spawn(work, (folder, name), nprocs=NUM_WORKERS, join=False)

    def held() -> int:
        return sum(held_bytes(process.pid) for process in workers.processes)

    def are_there(mark: str) -> bool:
        return all((folder / f"{mark}-{name}-{rank}").exists() for rank in range(NUM_WORKERS))

    while not are_there("ready"):
        assert not workers.join(timeout=0.01)
    before, peak = held(), 0
    (folder / f"go-{name}").touch()
    while not are_there("done"):
        peak = max(peak, held())
        assert not workers.join(timeout=0.002)
    (folder / f"end-{name}").touch()
    while not workers.join():
        pass
    copy = 4 * load_model(str(folder / name)).num_parameters()
    print(f"{name}: {(peak - before) / copy:.2f} of one fp32 copy over {NUM_WORKERS} workers")
    assert peak - before <= 1.6 * copy


def test_the_dtype_of_the_files_is_found(folder: Path) -> None:
    assert {name: stored_dtype(str(folder / name)) for name in DTYPES} == DTYPES
    assert stored_dtype(str(folder)) is torch.float32, "no model is there"


def test_weights_in_half_precision_train_as_their_fp32_copy_does(folder: Path, tmp_path: Path) -> None:
    load_model(str(folder / "bfloat16")).save_pretrained(tmp_path / "widened")
    models = [
        prepare_model(make_training(location, make_rows(4), TRAIN, Sft()))
        for location in (str(folder / "bfloat16"), str(tmp_path / "widened"))
    ]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
    for name, buffer in models[0].named_buffers():
        assert torch.equal(buffer, dict(models[1].named_buffers())[name]), name


def test_what_the_first_process_cannot_load_is_refused_on_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        prepare_model(make_training(str(tmp_path / "nowhere"), make_rows(4), TRAIN, Sft()))


def test_adapters_on_the_head_are_refused(folder: Path) -> None:
    train = TRAIN.model_copy(update={"lora": Lora(target_modules=("lm_head",))})
    with pytest.raises(ModelError, match="its head has an adapter"):
        prepare_model(make_training(str(folder / "tiny"), make_rows(4), train, Sft()))
