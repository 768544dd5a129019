#!/usr/bin/env bash
# trl 1.16.0, transformers 5.19.0, torch 2.13.0 on a CPU (Python 3.11, Linux).
#
# SFTTrainer takes a loss of one's own as `compute_loss_func` (deprecated, with a warning that says so), and label
# smoothing by `label_smoothing_factor`.
#
# Expected: a training step runs the model forward once for each batch, as with the trainer's own losses and as
# transformers' Trainer does with the same arguments.
# Seen: it runs it twice, the second time without gradients and only for the logged entropy and accuracy. With dropout
# these metrics are of another draw than the loss. A loss of one's own looks slower than the built-in ones for a reason
# that is not in it.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip() { "$work/venv/bin/pip" -q --disable-pip-version-check "$@" 2>/dev/null; }
pip install torch==2.13.0+cpu || pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
pip install trl==1.16.0 transformers==5.19.0 accelerate==1.15.0 datasets==5.2.0
cat > "$work/try.py" <<'PY'
import sys
import warnings

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

warnings.simplefilter("ignore")
SETTINGS = dict(
    output_dir=sys.argv[1], max_steps=3, per_device_train_batch_size=2, use_cpu=True, bf16=False,
    report_to="none", save_strategy="no", disable_tqdm=True, logging_strategy="no",
)
VOCABULARY = {"<end>": 0, **{f"w{i}": i for i in range(1, 64)}}
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(VOCABULARY, unk_token="<end>")), eos_token="<end>", pad_token="<end>"
)


def mean_loss(outputs, labels, num_items_in_batch=None):
    logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits, targets)


def forwards(trainer_class, arguments, rows, **options):
    """How often the model's body runs for each of three batches."""
    config = Qwen2Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = Qwen2ForCausalLM(config)
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    trainer_class(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=TOKENIZER, **options
    ).train()
    return len(calls) / 3, len(calls) - sum(calls)


rows = [{"input_ids": list(range(1, 21))}] * 6
labelled = [{**row, "labels": row["input_ids"]} for row in rows]
found = {
    "transformers, compute_loss_func": forwards(
        Trainer, TrainingArguments(**SETTINGS), labelled, compute_loss_func=mean_loss
    ),
    "trl, its own loss": forwards(SFTTrainer, SFTConfig(**SETTINGS), rows),
    "trl, loss_type dft": forwards(SFTTrainer, SFTConfig(**SETTINGS, loss_type="dft"), rows),
    "trl, compute_loss_func": forwards(SFTTrainer, SFTConfig(**SETTINGS), rows, compute_loss_func=mean_loss),
    "trl, label smoothing": forwards(SFTTrainer, SFTConfig(**SETTINGS, label_smoothing_factor=0.1), rows),
}
for name, (per_batch, without_gradients) in found.items():
    print(f"{name:<32} {per_batch:g} forwards a batch, {without_gradients} of all without gradients")
assert found == {
    "transformers, compute_loss_func": (1, 0),
    "trl, its own loss": (1, 0),
    "trl, loss_type dft": (1, 0),
    "trl, compute_loss_func": (2, 3),
    "trl, label smoothing": (2, 3),
}, "the behaviour has changed"
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work/out"
