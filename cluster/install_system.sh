#!/usr/bin/env bash
# Debian packages that some tests need: a browser, an S3 server and Prometheus. Without them those tests are skipped and
# counted; nothing else needs them.
set -uo pipefail

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v promtool >/dev/null || missing+=(prometheus)
for daemon in radosgw ceph-mon ceph-osd; do
  command -v $daemon >/dev/null || missing+=("$daemon")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "set-up: installing ${missing[*]} (apt-get)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 && exit 0
fi
echo "set-up: ${missing[*]} not installed (needs root and apt-get): the tests that want them will be skipped" >&2
