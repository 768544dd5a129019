"""What a training holds, by arithmetic, against processes that train."""

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from drsft.cli.plan import show_memory
from drsft.config import RunConfig
from drsft.errors import ConfigError
from drsft.policy.cache_size import model_shape
from drsft.sizing.memory import refuse_what_does_not_fit, training_memory, training_work
from tests.support.memory import WITHOUT_KERNEL_CACHES
from tests.train.test_start_memory import save_model

TRAIN = """
import json, sys
from pathlib import Path
import torch
from drsft.bench.training.train_data import draw_examples
from drsft.config import Arm, Sft, Train
from drsft.storage import LocalStore
from drsft.train.job import Job, Target, Training
from drsft.train.loop import train_one
from drsft.train.pack import pack
from drsft.train.world import World
from tests.support.memory import peak_bytes
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(1)
settings = Train(batch_rows=2, num_epochs=2, trackers=(), checkpoint_every_steps=9, **settings)
examples = draw_examples(num=13)
for one in examples:
    one.input_ids_T[:] %= 800
rows = pack(examples, seq_len=settings.seq_len)
training = Training(
    job=Job(arm=Arm(name="a", objective=Sft()), seed=0), settings=settings, rows=rows, world=World(),
    target=Target(location=str(folder / "model"), compute_dtype=getattr(torch, sys.argv[3])),
)
train_one(training, store=LocalStore(folder / "run"))
print(json.dumps(peak_bytes()))
"""


def config_of(model: str, **sections: Any) -> RunConfig:
    settings = {"name": "n", "problems": {"path": "p"}, "target": {"model": model, "dtype": "float32"}}
    return RunConfig.model_validate(settings | sections)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "activation_checkpointing", "is_tiny"),
    [
        ("float32", False, False),
        ("float32", True, False),
        ("float32", True, True),
        ("bfloat16", True, True),
    ],
)
def test_a_training_holds_what_the_plan_says(
    tmp_path: Path, dtype: str, activation_checkpointing: bool, is_tiny: bool
) -> None:
    if is_tiny:  # of which little but the process itself is held
        model = Qwen2Config(
            vocab_size=801,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
        )
        Qwen2ForCausalLM(model).save_pretrained(tmp_path / "model")
    else:
        save_model(tmp_path / "model", torch.float32)
    settings = {"seq_len": 1024, "activation_checkpointing": activation_checkpointing}
    command = [sys.executable, "-c", TRAIN, str(tmp_path), json.dumps(settings), dtype]
    environment = os.environ | WITHOUT_KERNEL_CACHES
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    held = json.loads(told.stdout.splitlines()[-1])
    location = str(tmp_path / "model")
    target = {"model": location, "dtype": dtype}
    planned = training_memory(config_of(location, train=settings, target=target), model_shape(location))
    on_cpu = planned.card + planned.host
    print(f"held {held / 1e6:,.0f} MB, planned {on_cpu / 1e6:,.0f} MB, ratio {held / on_cpu:.3f}")
    assert held == pytest.approx(on_cpu, rel=0.15)


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The configuration of Qwen2.5-Math-7B, without weights."""
    folder = tmp_path_factory.mktemp("model")
    Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    ).save_pretrained(folder)
    return str(folder)


def test_the_parameters_of_a_shape_are_those_of_its_model(seven_billion: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(seven_billion))
    assert model_shape(seven_billion).num_parameters == pytest.approx(model.num_parameters(), rel=0.001)


def test_workers_share_what_is_held_and_forwards_are_their_own(seven_billion: str) -> None:
    shape = model_shape(seven_billion)
    plans = [config_of(seven_billion, resources={"train_workers": count}) for count in (1, 8)]
    alone, shared = (training_memory(plan, shape) for plan in plans)
    held = 16 * shape.num_parameters
    assert alone.card - training_work(plans[0], shape) == held
    assert shared.card - training_work(plans[1], shape) < held / 2
    assert (alone.disk - shared.disk) == pytest.approx(12 * shape.num_parameters * 7 / 8)


def test_a_copy_for_each_node_takes_what_one_node_takes(seven_billion: str) -> None:
    shape = model_shape(seven_billion)
    given = ({"train_workers": 8}, {"train_workers": 16, "train_shards": 8}, {"train_workers": 16})
    node, copies, shared = (
        training_memory(config_of(seven_billion, resources=resources), shape) for resources in given
    )
    assert copies.card == node.card > shared.card
    assert copies.disk == shared.disk, "of a checkpoint each worker has its part"


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"resources": {"train_workers": 16, "train_shards": 1}}, "resources.train_shards"),
        ({"resources": {"train_workers": 1}}, "resources.train_workers"),
        (
            {"resources": {"train_workers": 8}, "train": {"micro_batch_rows": 16}},
            "train.micro_batch_rows",
        ),
        (
            {"rewrite": {"selection": "closest"}, "target": {"engine": {"gpu_memory_utilization": 0.4}}},
            "rewrite.selection: closest",
        ),
        ({"target": {"engine": {"gpu_memory_utilization": 0.2}}}, "target.engine.gpu_memory_utilization"),
        ({"resources": {"gpus_per_actor": 2}}, "target.engine.tensor_parallel_size"),
    ],
)
def test_what_does_not_fit_on_a_card_is_refused_by_its_setting(
    seven_billion: str, sections: dict[str, Any], key: str
) -> None:
    target = {"model": seven_billion, "dtype": "bfloat16"} | sections.get("target", {})
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: ") as found:
        refuse_what_does_not_fit(
            config_of(seven_billion, **(sections | {"target": target})),
            model_shape(seven_billion),
            card_bytes=80 * 10**9,
        )
    assert "\n" not in str(found.value)


def test_the_plan_prints_a_row_for_each_stage(seven_billion: str) -> None:
    shown = StringIO()
    config = config_of(seven_billion, resources={"train_workers": 8})
    with pytest.raises(ConfigError):
        show_memory(config, Console(file=shown, width=120), card_gb=16)
    assert "7.6" in shown.getvalue()
    assert all(stage in shown.getvalue() for stage in ("rewrite", "gap", "train"))
