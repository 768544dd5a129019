"""What training exports, read by a real vLLM: the same log-probabilities as the trainer's own forward."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import pack
from tests.support.train import make_examples, save_tiny_model, scored
from tests.train.test_loop import run

pytestmark = pytest.mark.engine

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture
def engine_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def engine_logprobs(folder: Path, prompts: list[list[int]]) -> list[list[float]]:
    """Of every token but the first of each prompt."""
    vllm = pytest.importorskip("vllm")
    options: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128}
    engine = vllm.LLM(
        model=str(folder),
        skip_tokenizer_init=True,
        max_num_seqs=8,
        kv_cache_memory_bytes=64 << 20,
        **options,
    )
    sampling = vllm.SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
    return [
        [place[token].logprob for token, place in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]
        for ids, output in zip(prompts, outputs, strict=True)
    ]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_vllm_gives_an_export_the_trainers_log_probabilities(
    engine_environment: None, tmp_path: Path, tied: bool
) -> None:
    # vLLM's attention on a CPU wants heads of at least 32
    location = save_tiny_model(tmp_path / "model", tied=tied, hidden_size=64, num_heads=2)
    run(location, tmp_path / "run")
    export = tmp_path / "run/export"
    examples = make_examples(12)
    rows = pack(examples, seq_len=32)
    trained, base = (scored(ScoringModel(load_model(path)), rows) for path in (str(export), location))
    by_id = {example.problem_id: example for example in examples}
    ordered = [by_id[problem_id] for problem_id in rows.problem_ids]
    engine = engine_logprobs(export, [example.input_ids_T.tolist() for example in ordered])
    expected = torch.tensor(
        [
            logprob
            for example, logprobs in zip(ordered, engine, strict=True)
            for logprob, is_learnt in zip(logprobs, example.loss_mask_T[1:], strict=True)
            if is_learnt
        ]
    )
    torch.testing.assert_close(trained, expected, rtol=0, atol=1e-4)
    assert (trained - base).abs().max() > 0.1  # it is the trained model that both have read
