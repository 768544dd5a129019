"""One process of a DDP training with drsft's loss: `torchrun tests/api/ddp_step.py MODEL FOLDER`.

Each of two processes takes half of the six examples of `Bench`; the first writes the logged loss and weights.
"""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import Trainer

import drsft
from drsft.bench.training.train_data import draw_examples
from drsft.train.model import load_model
from tests.api.trainers import padded_batch, step_arguments

__all__: list[str] = []


def main() -> None:
    model, folder = sys.argv[1], Path(sys.argv[2])
    examples = draw_examples(num=6)
    arguments = step_arguments(folder, per_device_train_batch_size=3, learning_rate=0.1, optim="sgd")
    trainer = drsft.objective_trainer(Trainer, "dft")(
        model=load_model(model),
        args=arguments,
        train_dataset=Dataset.from_list([{"row": row} for row in range(6)]),
        data_collator=lambda rows: padded_batch([examples[row["row"]] for row in rows]),
    )
    trainer.train()
    if os.environ["RANK"] == "0":
        [logged] = [entry for entry in trainer.state.log_history if "loss" in entry]
        (folder / "logged.json").write_text(json.dumps(logged))
        torch.save([weight.detach() for weight in trainer.model.parameters()], folder / "weights.pt")


if __name__ == "__main__":
    main()
