#!/bin/sh
# Runs a command against a kind cluster of its own, which is removed afterwards: three machines for
# pods, with the operator's image on them. It sees
#
#   KUBECONFIG               the cluster
#   QUORATE_IMAGE            the image's name
#   QUORATE_IMAGE_ARCHIVE    the image's archive
#   QUORATE_LOAD_IMAGE       a command that loads an archive into every node: its last word is the
#                            archive's path, which is yours to append
#
# Its own settings: KIND_IMAGE is the node image (kind's default if empty), KIND_CLUSTER the
# cluster's name, KIND_WORKERS how many machines there are for pods, KIND_KEEP=1 leaves the cluster
# for a look. An image that QUORATE_IMAGE_ARCHIVE names already is taken as it is.
set -eu
cd "$(dirname "$0")/.."

die() {
    echo "kind: error: $*" >&2
    exit 1
}
[ $# -gt 0 ] || die "name the command to run"
for tool in kind kubectl; do
    command -v "$tool" >/dev/null 2>&1 || die "there is no $tool on PATH"
done

cluster=${KIND_CLUSTER:-quorate-e2e}
case " $(kind get clusters 2>/dev/null | tr '\n' ' ') " in
*" $cluster "*) die "there is a cluster $cluster already: kind delete cluster --name $cluster" ;;
esac
QUORATE_IMAGE=${QUORATE_IMAGE:-quorate:dev}
if [ -z "${QUORATE_IMAGE_ARCHIVE:-}" ]; then
    QUORATE_IMAGE_ARCHIVE=${CARGO_TARGET_DIR:-target}/image/quorate.tar
    sh scripts/make-image.sh --tag "$QUORATE_IMAGE" --output "$QUORATE_IMAGE_ARCHIVE"
fi

work=$(mktemp -d)
cleanup() {
    if [ -n "${KIND_KEEP:-}" ]; then
        echo "kind: the cluster is left: export KUBECONFIG=$work/kubeconfig" >&2
        return
    fi
    kind delete cluster --name "$cluster" >/dev/null 2>&1 || echo "kind: $cluster could not be deleted" >&2
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

{
    echo 'kind: Cluster'
    echo 'apiVersion: kind.x-k8s.io/v1alpha4'
    echo 'nodes:'
    echo '- role: control-plane'
    for _ in $(seq "${KIND_WORKERS:-3}"); do echo '- role: worker'; done
} >"$work/kind.yaml"
KUBECONFIG=$work/kubeconfig
QUORATE_LOAD_IMAGE="kind load image-archive --name $cluster"
export KUBECONFIG QUORATE_IMAGE QUORATE_IMAGE_ARCHIVE QUORATE_LOAD_IMAGE
kind create cluster --name "$cluster" --config "$work/kind.yaml" --wait 3m \
    ${KIND_IMAGE:+--image "$KIND_IMAGE"}
# kind itself waits for the control plane only.
kubectl wait --for=condition=Ready nodes --all --timeout=3m
$QUORATE_LOAD_IMAGE "$QUORATE_IMAGE_ARCHIVE"

rc=0
"$@" || rc=$?
if [ "$rc" != 0 ]; then
    # Without this, a failure in CI can only be guessed at. Not beside the cluster's own files.
    logs=${CARGO_TARGET_DIR:-target}/kind-logs
    kind export logs --name "$cluster" "$logs" >/dev/null 2>&1 && echo "kind: logs are in $logs" >&2
    kubectl get etcdclusters,pods,events -A >&2 || true
fi
exit "$rc"
