#!/usr/bin/env bash
# transformers 5.19.0, tokenizers 0.23.3 (Python 3.11, Linux).
#
# A model folder holds a byte-level BPE tokenizer.json, which says all about pre-tokenizing and decoding. Its
# tokenizer_config.json names a tokenizer_class, as old exports do.
#
# Expected: AutoTokenizer gives the ids that tokenizer.json gives, whatever the class is called.
# Seen: the class replaces the file's pre-tokenizer and decoder without a warning.
#   LlamaTokenizer    "The cat sat 12345" decodes to "Thecatsat12345": all spaces are lost
#   Qwen2Tokenizer    digits are split one by one, where the file keeps groups
#   PreTrainedTokenizerFast gives the file's ids
# Who fine-tunes such a model trains on ids that its own tokenizer.json never produces.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install transformers==5.19.0 tokenizers==0.23.3 jinja2 2>/dev/null
cat > "$work/try.py" <<'PY'
import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

TEXT = "The cat sat 12345"
folder = pathlib.Path(sys.argv[1])
file = Tokenizer(models.BPE())
file.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
file.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet)
file.train_from_iterator(["The cat sat on the mat. 12345 67"] * 10, trainer)
file.save(str(folder / "tokenizer.json"))

found = {}
for name, model_type in (("LlamaTokenizer", "llama"), ("Qwen2Tokenizer", "qwen2"), ("PreTrainedTokenizerFast", "llama")):
    config = {"tokenizer_class": name, "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    found[name] = (tokenizer.decode(ids), ids == file.encode(TEXT).ids)
    print(f"{name:<24} {found[name][0]!r:<22} ids as in tokenizer.json: {found[name][1]}")
assert found == {
    "LlamaTokenizer": ("Thecatsat12345", False),
    "Qwen2Tokenizer": (TEXT, False),
    "PreTrainedTokenizerFast": (TEXT, True),
}, "the behaviour has changed"
PY
mkdir "$work/model"
"$work/venv/bin/python" "$work/try.py" "$work/model" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
