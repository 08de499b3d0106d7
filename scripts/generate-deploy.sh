#!/bin/sh
# Writes deploy/operator.yaml: what `helm template` makes of charts/quorate with its default values,
# in the namespace quorate-system, for those who install with kubectl alone.
#
# With --check it writes nothing, needs no helm, and fails if the file is not of this chart: its
# head records the checksum of all that it was made from, and of what was made.
set -eu
cd "$(dirname "$0")/.."
LC_ALL=C
export LC_ALL

target=deploy/operator.yaml
namespace=quorate-system

# The chart, file by file, and this script.
inputs() {
    { find charts/quorate -type f ! -name '*.md' ! -name '*.tgz' | sort; echo scripts/generate-deploy.sh; } |
        while read -r file; do
            echo "$file"
            cat "$file"
        done | sha256sum | cut -d' ' -f1
}
# What follows the head of a file.
body() { sed '1,/^# content: /d' "$1"; }
recorded() { sed -n "s/^# $1: sha256 //p;/^# content: /q" "$target"; }

if [ "${1:-}" = --check ]; then
    [ "$(recorded inputs)" = "$(inputs)" ] || {
        echo "$target is not of the chart as it is now; with helm on PATH, say: make generate" >&2
        exit 1
    }
    [ "$(recorded content)" = "$(body "$target" | sha256sum | cut -d' ' -f1)" ] || {
        echo "$target was edited by hand; change charts/quorate, then say: make generate" >&2
        exit 1
    }
    exit 0
fi

if ! command -v helm >/dev/null 2>&1; then
    echo "generate: there is no helm on PATH, so $target is left as it is" >&2
    exit 0
fi
trap 'rm -f "$target.body" "$target.helm" "$target.new"' EXIT
cat >"$target.body" <<NAMESPACE
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    pod-security.kubernetes.io/enforce: restricted
NAMESPACE
# What it makes is not under helm's care, and should not say so.
helm template quorate charts/quorate --namespace "$namespace" >"$target.helm"
sed '/^ *helm\.sh\/chart: /d; /^ *app\.kubernetes\.io\/managed-by: Helm$/d' "$target.helm" >>"$target.body"
{
    cat <<HEAD
# The Quorate operator in one file: kubectl apply -f $target
# Generated from charts/quorate by scripts/generate-deploy.sh; do not edit.
# inputs: sha256 $(inputs)
# content: sha256 $(sha256sum <"$target.body" | cut -d' ' -f1)
HEAD
    cat "$target.body"
} >"$target.new"
mv "$target.new" "$target"
