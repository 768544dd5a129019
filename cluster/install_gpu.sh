#!/usr/bin/env bash
# Installs drsft on an official vLLM image: .venv holds Ray and the other packages of requirements-gpu.lock; vLLM, torch
# and CUDA come from the image. The last line rejects an image whose packages do not fit.
set -euo pipefail
cd "$(dirname "$0")/.."

# It has no pip of its own: the image's pip installs into the environment that runs it.
python3 -m venv --without-pip --system-site-packages .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
# --no-deps: together with the image's packages the lock is complete; a resolver would replace those packages.
pip install --no-deps -r requirements-gpu.lock
pip install --no-deps --no-build-isolation -e .
.venv/bin/python cluster/gpu_lock.py --check
