#!/bin/sh
# Writes docs/crd.md, the reference of every field, from the generated CRD. With --check it writes
# nothing, and fails if the page is stale.
set -eu
cd "$(dirname "$0")/.."
LC_ALL=C
export LC_ALL

source=crds/etcdclusters.quorate.dev.yaml
target=docs/crd.md
new=$(mktemp)
trap 'rm -f "$new"' EXIT

awk -v source="$source" -f scripts/crd-doc.awk "$source" >"$new"
if [ "${1:-}" = --check ]; then
    cmp -s "$new" "$target" || {
        echo "$target is stale; say: make generate" >&2
        exit 1
    }
else
    cat "$new" >"$target"
fi
