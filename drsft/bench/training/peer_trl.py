"""Runs TRL's side of `drsft bench train` in one process: `python -m drsft.bench.training.peer_trl WORK`.

It uses TRL's SFTTrainer on the CPU as TRL's documentation does, with the model, data and hyperparameters of
drsft's side. The loss is TRL's own, or drsft's by `drsft.objective_trainer`.
"""

import json
import sys
import tempfile
import time
from typing import Any

import pyarrow.parquet as pq
import torch

import drsft
from drsft.bench.training.train_data import Work
from drsft.process.memory import peak_rss_mb

__all__: list[str] = []


def main() -> None:
    import datasets
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    work = Work.read(sys.argv[1])
    torch.set_num_threads(work.num_threads)
    ends_s: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends_s.append(time.perf_counter())

    table = pq.read_table(work.examples)
    examples_a_row = 1.0
    if work.layout == "packed":
        num_tokens = sum(len(ids) for ids in table["input_ids"])
        examples_a_row = max(1.0, work.seq_len * len(table) / num_tokens)
    micro = max(1, round(work.micro_batch_examples / examples_a_row))
    accumulated = max(1, round(work.batch_examples / examples_a_row / micro))
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=work.num_steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulated,
            learning_rate=work.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0,
            weight_decay=work.weight_decay,
            adam_beta1=work.adam_betas[0],
            adam_beta2=work.adam_betas[1],
            max_grad_norm=work.max_grad_norm,
            gradient_checkpointing=work.activation_checkpointing,
            loss_type="dft" if (work.objective, work.loss) == ("dft", "trl") else "nll",
            completion_only_loss=True,
            packing=work.layout == "packed",
            padding_free=work.layout == "padding-free",
            max_length=work.seq_len if work.layout == "packed" else None,
            train_sampling_strategy="sequential",
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        )
        is_ours = work.loss == "drsft"
        trainer = (drsft.objective_trainer(SFTTrainer, work.objective) if is_ours else SFTTrainer)(
            model=work.model,
            args=arguments,
            train_dataset=datasets.Dataset(table),
            callbacks=[Clock()],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    rows = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    batch = micro * accumulated
    tokens = sum(rows[batch : batch * len(ends_s)])
    seconds = ends_s[-1] - ends_s[0]  # the first step warms up
    print(json.dumps({"losses": losses, "tokens_per_s": tokens / seconds, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
