"""vLLM reads the shipped model and its tokenizer as transformers does."""

import os

import pytest
from transformers import AutoTokenizer

from tests.base_model.measure import guided_prompt, plain_prompt
from tests.base_model.task import MODEL_DIR, Split, make_problems


@pytest.mark.engine
def test_vllm_gives_the_same_token_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }.items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    vllm = pytest.importorskip("vllm")
    engine = vllm.LLM(
        model=str(MODEL_DIR),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=16,
        enforce_eager=True,
        seed=0,
        kv_cache_memory_bytes=64 << 20,
    )
    problems = list(make_problems(Split.HELD_OUT, 16))
    prompts = [guided_prompt(p) for p in problems] + [plain_prompt(p) for p in problems]
    transformers_tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    outputs = engine.generate(prompts, vllm.SamplingParams(temperature=0.0, max_tokens=64))
    ends = transformers_tokenizer.convert_tokens_to_ids("<|im_end|>")
    for prompt, output in zip(prompts, outputs, strict=True):
        wanted = transformers_tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert output.prompt_token_ids == wanted
        assert engine.get_tokenizer()(prompt, add_special_tokens=False)["input_ids"] == wanted
        generated = output.outputs[0]
        assert generated.text == transformers_tokenizer.decode(generated.token_ids, skip_special_tokens=True)
        if generated.finish_reason == "stop":
            assert generated.token_ids[-1] == ends
