"""A short training in bf16, whole and resumed from a checkpoint, with its speed and memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from drsft.config import Arm, Dft, Problems, RunConfig, Target, Train
from drsft.policy.cache_size import model_shape
from drsft.policy.prompts import model_location
from drsft.process.memory import peak_rss_mb
from drsft.sizing.memory import training_memory
from drsft.storage import LocalStore
from drsft.train.encode import Example
from drsft.train.job import Job, Training
from drsft.train.job import Target as Trained
from drsft.train.loop import train_one
from drsft.train.pack import pack
from drsft.train.world import World
from tests.gpu.scene import Row, Scene, within

__all__ = ["EXPORT", "training"]

EXPORT = "whole/export"  # in the scene's folder
MOST_OFF = 0.15  # of the planned memory, where card and host are one


def training(scene: Scene) -> list[Row]:
    """Four steps with a checkpoint, and the same ones resumed after the second."""
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
        within("training", "resumed loss against whole", error, 1e-3),
        _memory(scene, settings, peak),
    ]


def _memory(scene: Scene, settings: Train, peak: int) -> Row:
    problems = Problems(path="embedded:train")
    config = RunConfig(name="plan", problems=problems, target=Target(model=scene.model), train=settings)
    planned = training_memory(config, model_shape(model_location(scene.model)))
    is_gpu = torch.cuda.is_available()
    wanted = planned.card if is_gpu else planned.card + planned.host
    return Row(
        check="training",
        what="peak memory, GB",
        found=f"{peak / 1e9:.2f} (planned {wanted / 1e9:.2f})",
        limit="" if is_gpu else "15 % off",
        is_kept=None if is_gpu else abs(peak / wanted - 1) <= MOST_OFF,
    )


def _metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _ends(metrics: Sequence[dict[str, float]]) -> str:
    return f"{metrics[0]['loss']:.4f}, {metrics[-1]['loss']:.4f}"


def _examples(scene: Scene, seq_len: int, num: int) -> list[Example]:
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
