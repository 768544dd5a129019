#!/usr/bin/env bash
# Creates .venv-tools: programs that check manifests, Dockerfile and shell scripts, and those that build and check the wheel.
# Without them those tests are skipped and counted; nothing else needs them. Does nothing when nothing has changed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

folder=.venv-tools
lock=requirements-tools.lock
stamp=$folder/.installed-$(cat "$lock" cluster/install_tools.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

echo "set-up: installing $(grep -c == "$lock") tools into $folder"
.venv/bin/python -m venv "$folder" &&
  "$folder/bin/python" -m pip --disable-pip-version-check -qq install --no-deps -r "$lock" &&
  rm -f "$folder"/.installed-* && touch "$stamp" && exit 0
echo "set-up: $lock could not be installed: the tests that want those tools will be skipped" >&2
