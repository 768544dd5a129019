"""A training whose blocks are compiled, against the same one without: equal, and compiled once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.config import Dft
from drsft.train.compiled import compile_blocks
from drsft.train.model import ScoringModel, blocks_of, load_model, shard
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import VOCAB, make_examples, make_rows, oracle_gradients, save_tiny_model
from tests.train.test_loop import NUM_EXAMPLES, TRAIN, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, with which torch.compile compiles"),
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)  # an engine in this process has set it
    torch.compiler.reset()
    counters.clear()


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_a_compiled_training_is_the_same(tmp_path: Path, activation_checkpointing: bool) -> None:
    location = save_tiny_model(tmp_path / "model", tied=False)
    settings = TRAIN.model_copy(update={"activation_checkpointing": activation_checkpointing})
    eager = run(location, tmp_path / "eager", train=settings)
    compiled = run(location, tmp_path / "compiled", train=settings.model_copy(update={"compile": True}))
    for metric in ("loss", "grad_norm"):
        pairs = [(a[metric], b[metric]) for a, b in zip(compiled, eager, strict=True)]
        print(f"{metric} differs by {max(abs(a / b - 1) for a, b in pairs):.1e} in {len(pairs)} steps")
        assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-5)
    seconds = {
        name: json.loads((tmp_path / name / "done.json").read_bytes())["compile_s"]
        for name in ("eager", "compiled")
    }
    print(f"compiled in {seconds['compiled']:.1f} s")
    assert seconds["compiled"] > 0 == seconds["eager"]


@pytest.mark.usefixtures("group_of_one")
def test_compiled_blocks_give_the_gradient_of_the_definition_in_shards(tmp_path: Path) -> None:
    causal_lm = load_model(save_tiny_model(tmp_path, tied=False))
    want = oracle_gradients(load_model(str(tmp_path)), make_examples(NUM_EXAMPLES), is_dft=True)
    model = ScoringModel(causal_lm)
    compile_blocks(blocks_of(causal_lm), torch.device("cpu"))
    shard(model, World(), compute_dtype=torch.float32, by_block=True)
    rows = make_rows(NUM_EXAMPLES)
    accumulate_gradient(model, range(len(rows)), objective=Dft(), train=TRAIN, rows=rows, world=World())
    for name, parameter in causal_lm.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), want[name], rtol=1e-5, atol=1e-6, msg=name)


def test_layers_share_what_is_compiled_and_lengths_do_not_count(tmp_path: Path) -> None:
    """More layers than torch would compile one function for, and another length in each micro-batch."""
    graphs = {num_graphs(num_layers) for num_layers in (2, 10)}
    assert len(graphs) == 1
    assert min(*graphs) > 0
    assert len(set(*graphs)) == 1, "the first micro-batch compiles all that there is to compile"


def num_graphs(num_layers: int) -> tuple[int, ...]:
    """Returns how many graphs were compiled after micro-batches of each length."""
    torch.compiler.reset()
    counters.clear()
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    causal_lm = Qwen2ForCausalLM(config)
    model = ScoringModel(causal_lm)
    compile_blocks(blocks_of(causal_lm), torch.device("cpu"))
    rows, found = make_rows(NUM_EXAMPLES), []
    for size in range(1, 9):
        accumulate_gradient(model, list(range(size)), objective=Dft(), train=TRAIN, rows=rows, world=World())
        found.append(counters["stats"]["unique_graphs"])
    print(f"{num_layers} layers: {found}")
    return tuple(found)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CXX": "/nowhere/g++"}, "torch.compile does not run here"),
        ({"TORCHDYNAMO_DISABLE": "1"}, "torch.compile is switched off in the workers' environment"),
    ],
    ids=["no compiler", "switched off"],
)
def test_a_machine_that_cannot_compile_is_told_so(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    compiles = (
        "import torch; from drsft.train.compiled import compile_blocks; "
        "compile_blocks([], torch.device('cpu'))"
    )
    without = {**variables, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", compiles], capture_output=True, text=True, env=os.environ | without
    )
    assert f"drsft.errors.ModelError: train.compile: {reason}" in told.stderr
