#!/bin/sh
# All that is made from crds/: the chart's copy of it, deploy/operator.yaml and docs/crd.md. Without
# an argument it writes them; with --check it writes nothing and fails if one is stale. (Whether
# crds/ itself is what the Rust types say is a test's business.)
set -eu
cd "$(dirname "$0")/.."

crd=etcdclusters.quorate.dev.yaml
if [ "${1:-}" = --check ]; then
    failed=
    cmp -s "crds/$crd" "charts/quorate/files/$crd" || {
        echo "charts/quorate/files/$crd is not crds/$crd; say: make generate" >&2
        failed=yes
    }
    sh scripts/generate-deploy.sh --check || failed=yes
    sh scripts/generate-crd-doc.sh --check || failed=yes
    [ -z "$failed" ]
else
    cat "crds/$crd" >"charts/quorate/files/$crd"
    sh scripts/generate-deploy.sh
    sh scripts/generate-crd-doc.sh
fi
