#!/usr/bin/env bash
# Puts drsft over an official vLLM image: .venv holds Ray and the other packages of requirements-gpu.lock; vLLM, torch
# and CUDA are the image's own, seen through it. The last line refuses an image whose packages do not fit.
set -euo pipefail
cd "$(dirname "$0")/.."

# Without pip of its own: the image's serves, and installs into the environment that it is run from.
python3 -m venv --without-pip --system-site-packages .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
# --no-deps: the lock is complete beside the image's packages, and a resolver would replace those.
pip install --no-deps -r requirements-gpu.lock
pip install --no-deps --no-build-isolation -e .
.venv/bin/python cluster/gpu_lock.py --check
