#!/usr/bin/env bash
# Creates .venv with the pinned CPU stack and this project in it. Does nothing when the lock has not changed.
#
# The CPU build of torch comes from where pip's own configuration finds it, else from PyTorch's CPU wheel index.
# --no-deps everywhere: the lock is complete, and a resolver would add torchvision, torchaudio, torchcodec and
# triton, whose PyPI builds do not load beside CPU torch (vLLM then fails to import).
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements-cpu.lock
torch_index=https://download.pytorch.org/whl/cpu
stamp=.venv/.installed-$(cat "$lock" pyproject.toml cluster/install_cpu.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

fail() { printf 'set-up: %s\n' "$*" >&2; exit 2; }

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "Python 3.11 is missing; install it (Debian 12: apt-get install python3 python3-venv)"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "$python is Python $version, the lock is for 3.11; set PYTHON=/path/to/python3.11"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "the lock is for Linux on x86_64, this is $(uname -sm)"
"$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
  fail "libnuma is missing, vLLM needs it (Debian: apt-get install libnuma1)"
if [ ! -x .venv/bin/pip ]; then
  "$python" -m venv .venv || fail "cannot make .venv; on Debian install python3-venv"
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }

torch=$(grep '^torch==' "$lock")
if ! .venv/bin/python -c "import importlib.metadata as m, sys; sys.exit(m.version('torch') != '${torch#torch==}')" 2>/dev/null; then
  echo "set-up: installing $torch (about 200 MB)"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # An index that does not respond is skipped after five seconds, without a retry.
  pip install --no-deps "$torch" >"$log" 2>&1 ||
    pip install --no-deps --timeout 5 --retries 0 --index-url "$torch_index" "$torch" >>"$log" 2>&1 || {
      grep -E '^ERROR|rror:' "$log" | tail -3 >&2 || true
      fail "$torch was found neither through pip's configuration nor at $torch_index;" \
        "put the wheel where pip looks (PIP_FIND_LINKS=/folder make ...) or allow that index"
    }
fi
echo "set-up: installing $(grep -c == "$lock") pinned packages into .venv (2-4 minutes)"
pip install --no-deps -r "$lock" || fail "the packages of $lock could not be installed; see above"
pip install --no-deps --no-build-isolation -e . || fail "the project itself could not be installed; see above"
rm -f .venv/.installed-*
touch "$stamp"
