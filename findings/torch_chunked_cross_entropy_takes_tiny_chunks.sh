#!/usr/bin/env bash
# torch 2.13.0+cpu (Python 3.11, Linux x86-64, two threads).
#
# The chunked linear_cross_entropy with its default options, LinearCrossEntropyOptions(), on the head of a small language
# model with a large vocabulary: 512 tokens, hidden size 896, vocabulary 151,936, fp32, forward and backward.
#
# Expected: the default chunk is about as fast as one that is chosen by hand.
# Seen: the chunk's size follows from hidden size / vocabulary, which leaves a few tokens a chunk. The default took ten times
# as long as batch_chunk_size=256 with the same loss (61 s and 5.8 s at 1,024 tokens on two cores). This fails if the
# default comes within three times.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install torch==2.13.0+cpu numpy 2>/dev/null
cat > "$work/try.py" <<'PY'
import time

import torch
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import linear_cross_entropy

torch.set_num_threads(2)
TOKENS, HIDDEN, VOCABULARY = 512, 896, 151_936
hidden = torch.randn(TOKENS, HIDDEN).requires_grad_()
weight = torch.randn(VOCABULARY, HIDDEN).mul_(0.02).requires_grad_()
labels = torch.randint(0, VOCABULARY, (TOKENS,))
sides = {
    "default options": LinearCrossEntropyOptions(),
    "batch_chunk_size=256": LinearCrossEntropyOptions(batch_chunk_size=256),
}
seconds, losses = {}, {}
for name, options in sides.items():
    hidden.grad = weight.grad = None
    started = time.perf_counter()
    loss = linear_cross_entropy(hidden, weight, labels, options=options)
    loss.backward()
    seconds[name], losses[name] = time.perf_counter() - started, loss.item()
    print(f"{name:<22} {seconds[name]:6.1f} s, loss {losses[name]:.5f}")
default, chosen = seconds.values()
assert abs(losses["default options"] - losses["batch_chunk_size=256"]) < 1e-4
assert default > 3 * chosen, "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
