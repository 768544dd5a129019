#!/usr/bin/env bash
# Creates .venv-peers: other people's tools that `drsft bench` measures beside drsft. They lie over .venv (torch,
# transformers and whatever else the CPU lock pins are taken from there) and never in it, so that no peer's
# dependency becomes one of ours. Does nothing when nothing has changed.
#
#   cluster/install_peers.sh [FOLDER]        FOLDER: instead of .venv-peers
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-.venv-peers}
lock=requirements-peers.lock
base=.venv
stamp=$folder/.installed-$(cat "$lock" requirements-cpu.lock cluster/install_peers.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

fail() { printf 'set-up: %s\n' "$*" >&2; exit 2; }

[ -x "$base/bin/python" ] || fail "the peers lie over .venv; run make venv first"
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
