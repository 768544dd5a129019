"""What a machine makes of training's paths that only a GPU takes: one table of parities, speeds and memory.

    python -m tests.gpu.first_contact [--model MODEL]     on any CUDA machine, at most 25 minutes
    python -m tests.gpu.first_contact --toy               the embedded model on any machine: the script works

Each check is a process of its own, so that its memory is its own and a crash is a line of the table. On a CPU
the attention is torch's for each document, not the flash kernel, and no figure says anything about a GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from drsft.config import Arm, Dft, Problems, Prompts, RunConfig, Target, Train
from drsft.intake.problems import Intake, read_problems
from drsft.policy.cache_size import model_shape
from drsft.policy.prompts import Prompter, load_prompter, model_location
from drsft.process.memory import peak_rss_mb
from drsft.records import Problem

CHECK_LIMIT_S = 480  # three checks in 25 minutes
KINDS = {True: torch.device("cuda"), False: torch.device("cpu")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    check: str
    what: str
    found: str
    limit: str = ""
    is_kept: bool | None = None  # where there is a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What every check is given."""

    model: str
    is_toy: bool
    folder: Path

    @property
    def device(self) -> torch.device:
        return KINDS[torch.cuda.is_available()]

    @property
    def prompter(self) -> Prompter:
        return load_prompter(self.model, Prompts())

    def problems(self, num: int) -> list[Problem]:
        found = read_problems(Problems(path="embedded:train"), Intake())
        return [problem for _, problem in zip(range(num), found, strict=False)]


def _within(check: str, what: str, error: float, limit: float) -> Row:
    return Row(check=check, what=what, found=f"{error:.1e}", limit=f"{limit:.0e}", is_kept=error <= limit)


def _error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


def attention(scene: Scene) -> list[Row]:
    """bf16 against each document by itself in fp32, forward and backward."""
    from drsft.train.attention import DocumentSpans, document_attention

    rows, lengths = [], (5, 300, 64, 1, 130)
    for heads, groups, size, window in ((8, 2, 128, None), (8, 8, 64, None), (4, 1, 256, 100)):
        shapes = [(1, count, sum(lengths), size) for count in (heads, groups, groups)]
        torch.manual_seed(0)
        given = [torch.randn(shape, device=scene.device).bfloat16() for shape in shapes]
        results = []
        for dtype in (torch.bfloat16, torch.float32):
            inputs = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in given]
            spans = DocumentSpans.of(lengths, scene.device)
            found, _ = document_attention(
                torch.nn.Module(), *inputs, None, document_spans=spans, sliding_window=window
            )
            torch.autograd.backward(found.float().square().sum())
            results.append([found.detach(), *(tensor.grad for tensor in inputs)])
        name = f"{heads} heads, {groups} of keys, of {size}" + (f", window {window}" if window else "")
        for what, ours, wanted in zip(("forward", "dq", "dk", "dv"), *results, strict=True):
            rows.append(_within("attention", f"{name}: {what}", _error(ours, wanted), 2e-2))
    return rows


def loss(scene: Scene) -> list[Row]:
    """The fused loss in bf16 against full logits in fp32."""
    from drsft.objectives.head import Head
    from drsft.objectives.loss import LossRequest, fused_loss

    tokens, vocab, hidden = (300, 2_000, 64) if scene.is_toy else (8_192, 152_064, 3_584)
    torch.manual_seed(0)
    hidden_ND = torch.randn(tokens, hidden, device=scene.device).bfloat16()
    weight_VD = (0.05 * torch.randn(vocab, hidden, device=scene.device)).bfloat16()
    labels_N = torch.randint(vocab, (tokens,), device=scene.device)
    ours = [tensor.clone().requires_grad_() for tensor in (hidden_ND, weight_VD)]
    request = LossRequest(num_loss_tokens=tokens, objective=Dft())
    found = fused_loss(ours[0], Head(weight_VD=ours[1]), labels_N, request).loss
    torch.autograd.backward(found)
    wanted = [tensor.float().requires_grad_() for tensor in (hidden_ND, weight_VD)]
    part = slice(0, tokens if scene.is_toy else 1_024)  # full logits of all would not fit
    logp_N = (wanted[0][part] @ wanted[1].T).log_softmax(-1).gather(-1, labels_N[part, None])[:, 0]
    torch.autograd.backward(-(logp_N.detach().exp() * logp_N).sum() / tokens)
    gradients = [tensor.grad for tensor in (ours[0], wanted[0])]
    assert gradients[0] is not None
    assert gradients[1] is not None
    return [_within("loss", "gradient of the states", _error(gradients[0][part], gradients[1][part]), 2e-2)]


def training(scene: Scene) -> list[Row]:
    """Four steps with a checkpoint, and the same ones resumed after the second."""
    from drsft.storage import LocalStore
    from drsft.train.job import Job, Training
    from drsft.train.job import Target as Trained
    from drsft.train.loop import train_one
    from drsft.train.pack import pack
    from drsft.train.world import World

    settings = Train(
        seq_len=256 if scene.is_toy else 2048,
        batch_rows=2 if scene.is_toy else 16,
        checkpoint_every_steps=2,
        trackers=(),
        activation_checkpointing=not scene.is_toy,
    )
    rows = pack(_examples(scene, settings.seq_len, 64 if scene.is_toy else 600), seq_len=settings.seq_len)
    training = Training(
        job=Job(arm=Arm(name="dft", objective=Dft()), seed=0),
        settings=settings,
        target=Trained(location=model_location(scene.model), compute_dtype=torch.bfloat16),
        rows=rows,
        world=World.current(scene.device),
    )

    def die(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    train_one(training, store=LocalStore(scene.folder / "whole"))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else int(peak_rss_mb() * 1e6)
    try:
        train_one(training, store=LocalStore(scene.folder / "resumed"), on_step=die)
    except KeyboardInterrupt:
        train_one(training, store=LocalStore(scene.folder / "resumed"))
    whole, resumed = (_metrics(scene.folder / name) for name in ("whole", "resumed"))
    error = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(whole, resumed, strict=True))
    rates = [one["tokens_per_s"] for one in whole[1:]]
    mfu = f"{whole[-1]['mfu']:.0%}" if "mfu" in whole[-1] else "no known peak"
    return [
        Row(check="training", what="tokens/s", found=f"{sum(rates) / len(rates):,.0f}"),
        Row(check="training", what="utilisation (mfu)", found=mfu),
        Row(check="training", what="loss, first and last step", found=_ends(whole)),
        _within("training", "resumed loss against whole", error, 1e-3),
        _memory(scene, settings, peak),
    ]


def _memory(scene: Scene, settings: Train, peak: int) -> Row:
    from drsft.sizing.memory import training_memory

    problems = Problems(path="embedded:train")
    config = RunConfig(name="plan", problems=problems, target=Target(model=scene.model), train=settings)
    planned = training_memory(config, model_shape(model_location(scene.model)))
    wanted = planned.card if torch.cuda.is_available() else planned.card + planned.host
    return Row(
        check="training", what="peak memory, GB", found=f"{peak / 1e9:.2f} (planned {wanted / 1e9:.2f})"
    )


def _metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _ends(metrics: Sequence[dict[str, float]]) -> str:
    return f"{metrics[0]['loss']:.4f}, {metrics[-1]['loss']:.4f}"


def _examples(scene: Scene, seq_len: int, num: int) -> list[Any]:
    import numpy as np

    from drsft.train.encode import Example

    prompter, examples = scene.prompter, []
    for one in scene.problems(num):
        prompt, completion = prompter.plain(one), prompter.completion(one.demonstration)
        ids = np.array([*prompt, *completion], dtype=np.int32)
        if len(ids) <= seq_len:
            examples.append(
                Example(
                    problem_id=one.problem_id,
                    source="expert",
                    input_ids_T=ids,
                    loss_mask_T=np.arange(len(ids)) >= len(prompt),
                    thought_mask_T=np.zeros(len(ids), dtype=np.bool_),
                )
            )
    return examples


CHECKS: dict[str, Callable[[Scene], list[Row]]] = {one.__name__: one for one in (attention, loss, training)}


def _run(name: str, scene: Scene) -> list[Row]:
    options = ["--toy"] if scene.is_toy else []
    command = [sys.executable, "-m", "tests.gpu.first_contact", "--model", scene.model, *options]
    command += ["--check", name, "--folder", str(scene.folder)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_LIMIT_S)
        lines = [line for line in told.stdout.splitlines() if line.startswith("[{")]
        if told.returncode == 0 and lines:
            return [Row(**row) for row in json.loads(lines[-1])]
        reason = (told.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
    except subprocess.TimeoutExpired:
        reason = f"not done after {CHECK_LIMIT_S} s"
    return [Row(check=name, what="failed", found=reason, is_kept=False)]


def first_contact(scene: Scene, console: Console) -> list[Row]:
    found = [row for name in CHECKS for row in _run(name, scene)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU: no figure is of a GPU"
    table = Table("check", "what", "found", "at most", "", title=f"{scene.model} on {device}")
    for row in found:
        mark = "" if row.is_kept is None else "ok" if row.is_kept else "NOT KEPT"
        table.add_row(row.check, row.what, row.found, row.limit, mark)
    console.print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--check", choices=CHECKS, help="only this one, as JSON")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drsft-first-contact-") as name:
        scene = Scene(model=given.model, is_toy=given.toy, folder=given.folder or Path(name))
        if given.check:
            print(json.dumps([asdict(row) for row in CHECKS[given.check](scene)]), flush=True)
            return
        found = first_contact(scene, Console(width=140))
    sys.exit(any(row.is_kept is False for row in found))


if __name__ == "__main__":
    main()
