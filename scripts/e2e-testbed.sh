#!/bin/sh
# Runs the end-to-end tests on the testbed, which it brings up and leaves up: builds, makes the
# images, loads them, and takes the operator and its namespaces away again afterwards. Arguments
# go to the tests.
#
#   TESTBED                 the folder with `testbed` and `make-image`: ../shared/testbed
#   QUORATE_E2E_ARCHIVES    images to take instead of building them, separated by colons
#   QUORATE_E2E_KEEP=1      leave all as it is, for a look
#
# Images made here are of this machine's debug build, with the libraries that it needs: soon made,
# and not what is shipped.
set -eu
cd "$(dirname "$0")/.."
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
TESTBED=${TESTBED:-../shared/testbed}

die() {
    echo "e2e: error: $*" >&2
    exit 1
}
[ -x "$TESTBED/testbed" ] || die "there is no testbed in $TESTBED; TESTBED names its folder"
TESTBED=$(cd "$TESTBED" && pwd)
"$TESTBED/testbed" up >/dev/null
eval "$("$TESTBED/testbed" env)"
export KUBECONFIG PATH

work=$(mktemp -d)
cleanup() {
    rm -rf "$work"
    [ -z "${QUORATE_E2E_KEEP:-}" ] || return 0
    # Clusters first: the operator lets go of them while it is still there.
    for namespace in $(kubectl get namespaces -l quorate.dev/e2e -o name); do
        kubectl -n "${namespace#namespace/}" delete etcdclusters --all --timeout=30s >/dev/null 2>&1 || true
    done
    kubectl delete namespaces -l quorate.dev/e2e --timeout=60s >/dev/null 2>&1 || true
    kubectl delete clusterrole,clusterrolebinding quorate-operator >/dev/null 2>&1 || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# pack BINARY TAG [MORE...]: an archive of a binary and all that it is linked to.
pack() {
    binary=$1 tag=$2
    shift 2
    cp "$binary" "$work/binary"
    strip --strip-debug "$work/binary"
    for library in $(ldd "$binary" | grep -o '/[^ ]*'); do
        set -- "$@" --file "$(readlink -f "$library"):$library"
    done
    name=/$(basename "$binary")
    archive=$work/$(echo "$tag" | tr ':/' '--').tar
    "$TESTBED/make-image" --tag "$tag" --output "$archive" --file "$work/binary:$name" \
        --entrypoint "$name" "$@" >/dev/null
    QUORATE_E2E_ARCHIVES=${QUORATE_E2E_ARCHIVES:+$QUORATE_E2E_ARCHIVES:}$archive
}

if [ -z "${QUORATE_E2E_ARCHIVES:-}" ]; then
    cargo build --locked --features e2e-writer --bins
    built=${CARGO_TARGET_DIR:-target}/debug
    pack "$built/quorate" quorate:dev
    pack "$built/quorate" quorate:next
    pack "$built/quorate-e2e-writer" quorate-e2e-writer:dev
    # The testbed's own etcd is one.
    etcd=${TESTBED_HOME:-/var/lib/quorate-testbed}/cache/bin/etcd
    if [ -x "$etcd" ]; then
        "$TESTBED/make-image" --tag etcd:e2e --output "$work/etcd.tar" \
            --file "$(readlink -f "$etcd"):/usr/local/bin/etcd" --entrypoint /usr/local/bin/etcd >/dev/null
        QUORATE_E2E_ARCHIVES=$QUORATE_E2E_ARCHIVES:$work/etcd.tar
        QUORATE_E2E_ETCD=etcd:e2e
        export QUORATE_E2E_ETCD
    fi
fi
QUORATE_E2E_LOAD="$TESTBED/testbed load-image"
QUORATE_E2E_TESTBED=$TESTBED/testbed
export QUORATE_E2E_ARCHIVES QUORATE_E2E_LOAD QUORATE_E2E_TESTBED
cargo test --locked --features e2e-writer --test e2e -- --nocapture --test-threads=1 "$@"
