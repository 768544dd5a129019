#!/usr/bin/env bash
# Writes an image's digest into the manifests:
#
#   cluster/set_image.sh drsft registry.example.com/team/drsft@sha256:<64 hex digits> [FOLDER]
#   cluster/set_image.sh redis docker.io/library/redis@sha256:...
#
# FOLDER: instead of k8s/site. `make image` builds, pushes and calls this; for an image that is there already:
#   docker buildx imagetools inspect redis:7.4-alpine --format '{{.Manifest.Digest}}'
set -euo pipefail

fail() { printf 'set_image: %s\n' "$*" >&2; exit 2; }

[ $# -ge 2 ] && [ $# -le 3 ] || fail "usage: cluster/set_image.sh NAME REPOSITORY@sha256:DIGEST [FOLDER]"
name=$1 image=$2 file=${3:-$(dirname "$0")/../k8s/site}/kustomization.yaml
repository=${image%@*} digest=${image##*@}
[[ $image == *@* && $digest =~ ^sha256:[0-9a-f]{64}$ ]] ||
  fail "$image: give it by digest, REPOSITORY@sha256:<64 hex digits>"
[[ $repository =~ ^[a-z0-9._/:-]+$ ]] || fail "$repository: no repository's name"
grep -q "^  - name: $name\$" "$file" || fail "$file has no image named $name"

sed -i -E "/^  - name: $name\$/,/^    digest:/ {
  s|^(    newName:).*|\1 $repository|
  s|^(    digest:).*|\1 $digest|
}" "$file"
