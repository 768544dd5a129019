"""The fused loss and the whole training step on a GPU; at toy size it runs on any machine.

    python -m tests.studies.gpu_loss [--out FILE]     on a CUDA GPU; liger-kernel too where it is installed
    python -m tests.studies.gpu_loss --toy            tiny shapes on the CPU: proves that the script works

Part 1: loss with backward at 16k tokens × 152k vocabulary in bf16, drsft's with entropy against the fused
linear cross-entropy of liger-kernel with its token scaling (which is DFT), interleaved; time and peak memory
above the inputs. Part 2: training steps of models shaped like Qwen2.5-1.5B and 7B, random weights, bf16
compute with fp32 masters and AdamW; tokens/s, peak memory and the share of the matrix product rate of the
same run. A model whose weights and optimiser do not fit has as many of its layers as do, and says so.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen2Config

from drsft.config import Arm, Train
from drsft.config.objectives import Dft
from drsft.objectives.head import Head
from drsft.objectives.loss import LossRequest, fused_loss
from drsft.train.encode import Example
from drsft.train.flops import training_flops
from drsft.train.job import Job, Target, Training
from drsft.train.model import ScoringModel, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.pack import pack
from drsft.train.step import train_step
from drsft.train.world import World

BYTES_PER_PARAMETER = 16 + 4  # fp32 weight, gradient and two moments; bf16 copies and room for activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    loss_tokens: int
    vocab: int
    hidden: Sequence[int]
    models: dict[str, dict[str, int]]
    document_tokens: int
    batch_documents: int
    matmul: int
    rounds: int


QWEN_1_5B = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2,
}  # fmt: skip
QWEN_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4,
}  # fmt: skip
FULL = Size(
    loss_tokens=16_384,
    vocab=152_064,
    hidden=(1536, 3584),
    models={"Qwen2.5-1.5B": QWEN_1_5B, "Qwen2.5-7B": QWEN_7B},
    document_tokens=1024,
    batch_documents=16,
    matmul=8192,
    rounds=10,
)
TOY = Size(
    loss_tokens=96,
    vocab=512,
    hidden=(32,),
    models={
        "toy": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1,
        }
    },
    document_tokens=16,
    batch_documents=4,
    matmul=128,
    rounds=2,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if not options.toy and not torch.cuda.is_available():
        parser.error("no CUDA GPU; --toy runs tiny shapes on the CPU")
    size = TOY if options.toy else FULL
    device = torch.device("cpu" if options.toy else "cuda")
    dtype = torch.float32 if options.toy else torch.bfloat16
    rate = matmul_rate(size, device, dtype)
    found = {
        "device": "CPU" if options.toy else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "matmul_tflops": round(rate / 1e12, 3),
        "losses": [loss_row for hidden in size.hidden for loss_row in losses(size, hidden, device, dtype)],
        "steps": [step_row(name, shape, size, device, dtype, rate) for name, shape in size.models.items()],
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text)
    return found


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds, with the device's work done before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started_s = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def peak_mb(device: torch.device, before: int | None = None) -> float:
    """Of the device's memory since the last call without `before`; 0 on the CPU."""
    if device.type != "cuda":
        return 0.0
    if before is None:
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def matmul_rate(size: Size, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large product, the best of some: what the device can really do."""
    left, right = (torch.randn(size.matmul, size.matmul, device=device, dtype=dtype) for _ in "12")
    seconds = min(timed(lambda: left @ right, device) for _ in range(size.rounds + 2))
    return 2 * size.matmul**3 / seconds


def losses(size: Size, hidden: int, device: torch.device, dtype: torch.dtype) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    hidden_ND = torch.randn(size.loss_tokens, hidden, device=device, dtype=dtype).requires_grad_()
    weight_VD = (torch.randn(size.vocab, hidden, device=device, dtype=dtype) * hidden**-0.5).requires_grad_()
    labels_N = torch.randint(size.vocab, (size.loss_tokens,), device=device)
    request = LossRequest(num_loss_tokens=size.loss_tokens, objective=Dft())
    sides: dict[str, Callable[[], Tensor]] = {
        "drsft, with entropy": lambda: (
            fused_loss(hidden_ND, Head(weight_VD=weight_VD), labels_N, request).loss
        )
    }
    liger = liger_loss(hidden_ND, weight_VD, labels_N)
    if liger is not None:
        sides["liger-kernel"] = liger
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, float] = {}
    values: dict[str, float] = {}
    for number in range(size.rounds + 2):  # the first two compile and tune
        for name, loss_of in sides.items():
            hidden_ND.grad = weight_VD.grad = None
            before = peak_mb(device)
            taken_s = timed(lambda of=loss_of: of().backward(), device)
            memory[name] = peak_mb(device, int(before))
            values[name] = float(loss_of().detach())
            if number >= 2:
                seconds[name].append(taken_s)
    return [
        {
            "side": name,
            "tokens": size.loss_tokens,
            "vocab": size.vocab,
            "hidden": hidden,
            "ms": round(1e3 * statistics.median(seconds[name]), 2),
            "ms_min": round(1e3 * min(seconds[name]), 2),
            "ms_max": round(1e3 * max(seconds[name]), 2),
            "mb_above_inputs": round(memory[name]),
            "loss": values[name],
        }
        for name in sides
    ]


def liger_loss(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Callable[[], Tensor] | None:
    if not hidden_ND.is_cuda:
        return None
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        print("liger-kernel is not installed: drsft alone is measured")
        return None
    loss = LigerFusedLinearCrossEntropyLoss(use_token_scaling=True)
    return lambda: loss(weight_VD, hidden_ND, labels_N)


def step_row(
    name: str, shape: dict[str, int], size: Size, device: torch.device, dtype: torch.dtype, rate: float
) -> dict[str, Any]:
    layers, parameters = fitting_layers(shape, size, device)
    config = Qwen2Config(
        **{**shape, "num_hidden_layers": layers},
        vocab_size=size.vocab,
        max_position_embeddings=4096,
        tie_word_embeddings=shape["hidden_size"] < 3000,
    )
    world = World(device=device)
    with torch.device(device):
        causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model = ScoringModel(causal_lm.train(), activation_checkpointing=device.type == "cuda")
    if dtype != torch.float32:
        world.ensure_process_group()
        shard(model, world, compute_dtype=dtype)
    train = Train(
        seq_len=4 * size.document_tokens,
        batch_rows=size.batch_documents // 4,
        micro_batch_rows=1,
        num_epochs=1000,
    )
    rows = pack(documents(size), seq_len=train.seq_len)
    training = Training(
        job=Job(arm=Arm(name="dft"), seed=0),
        settings=train,
        target=Target(location=name, compute_dtype=dtype),
        rows=rows,
        world=world,
    )
    optimiser = make_optimiser(model, train)
    before = peak_mb(device)
    steps = [train_step(training, model, optimiser, step) for step in range(size.rounds + 2)]
    seconds = statistics.median(row["step_s"] for row in steps[2:])
    step_rows = training.order.rows_of(0)
    tokens = rows.num_tokens(step_rows)
    flops = training_flops(
        model.causal_lm,
        lengths=rows.documents(step_rows).lengths,
        num_loss_tokens=rows.num_loss_tokens(step_rows),
    )
    return {
        "model": name,
        "layers": f"{layers} of {shape['num_hidden_layers']}",
        "parameters": parameters,
        "tokens_per_step": tokens,
        "tokens_per_s": round(tokens / seconds),
        "peak_gb": round((peak_mb(device, int(before)) + before / 2**20) / 1024, 2),
        "flops_share_of_matmul_rate": round(flops / seconds / rate, 4),
    }


def fitting_layers(shape: dict[str, int], size: Size, device: torch.device) -> tuple[int, int]:
    """Layers that fit with their optimiser, and the parameters that multiply tokens (the head once)."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    kv = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    of_layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner
    of_head = hidden * size.vocab
    layers = shape["num_hidden_layers"]
    if device.type == "cuda":
        budget = torch.cuda.get_device_properties(0).total_memory / BYTES_PER_PARAMETER
        layers = min(layers, int((budget - 2 * of_head) // of_layer))
    return layers, layers * of_layer + of_head


def documents(size: Size) -> list[Example]:
    """Two steps' worth of random text, three quarters of it completion."""
    draw = np.random.default_rng(0)
    length = size.document_tokens
    return [
        Example(
            problem_id=f"p{number}",
            source="own",
            input_ids_T=draw.integers(0, size.vocab, length).astype(np.int32),
            loss_mask_T=np.arange(length) >= length // 4,
            thought_mask_T=np.zeros(length, dtype=np.bool_),
        )
        for number in range(2 * size.batch_documents)
    ]


if __name__ == "__main__":
    main()
