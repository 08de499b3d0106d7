#!/bin/sh
# Runs the end-to-end tests on the testbed, which it brings up and leaves up: builds, makes the
# images, loads them, and takes the operator and its namespaces away again afterwards. Arguments
# go to the tests; without any, all run, and then what the API server's audit log says of the
# operator's calls is compared with its rights. With --if-there first, a machine that has no testbed,
# or on which it does not come up, is told so, and that is all.
#
#   TESTBED                 the folder with `testbed` and `make-image`: ../shared/testbed
#   QUORATE_E2E_ARCHIVES    images to take instead of building them, separated by colons
#   QUORATE_E2E_PROFILE     of the build: release, for figures [dev]
#   QUORATE_E2E_KEEP=1      leave all as it is, for a look
#
# Images made here are of this machine's own build, with the libraries that it needs: soon made, and
# not what is shipped.
set -eu
cd "$(dirname "$0")/.."
# The testbed wants Go, whose own place is often on nobody's PATH.
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/go/bin"
TESTBED=${TESTBED:-../shared/testbed}

die() {
    echo "e2e: error: $*" >&2
    exit 1
}
missing() {
    [ -z "$if_there" ] || { echo "e2e: SKIPPED: $*"; exit 0; }
    die "$*"
}
if_there=
if [ "${1:-}" = --if-there ]; then
    if_there=1
    shift
fi
[ -x "$TESTBED/testbed" ] || missing "there is no testbed in $TESTBED; TESTBED names its folder"
TESTBED=$(cd "$TESTBED" && pwd)

# What the operator asks for, and nothing else, in a log that the tests read. The admission makes
# the API server ask for a right that other clusters ask for.
audit=${TESTBED_HOME:-/var/lib/quorate-testbed}/audit
mkdir -p "$audit" || missing "cannot write below ${audit%/*}"
cat >"$audit/policy.yaml" <<'POLICY'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:quorate-system:quorate-operator"]
- level: None
POLICY
TESTBED_APISERVER_FLAGS="--audit-policy-file=$audit/policy.yaml --audit-log-path=$audit/log \
--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
export TESTBED_APISERVER_FLAGS
if ! pgrep -f -- "[-]-audit-log-path=$audit/log" >/dev/null; then
    # One that runs already was started without.
    "$TESTBED/testbed" control stop kube-apiserver >/dev/null 2>&1 || true
fi
"$TESTBED/testbed" up >/dev/null || missing "the testbed does not come up"
: >"$audit/log"
QUORATE_E2E_AUDIT=$audit/log
export QUORATE_E2E_AUDIT
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
    kubectl delete --ignore-not-found -f deploy/operator.yaml --timeout=60s >/dev/null 2>&1 || true
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
    profile=${QUORATE_E2E_PROFILE:-dev}
    cargo build --locked --bins --examples --profile "$profile"
    [ "$profile" != dev ] || profile=debug
    built=${CARGO_TARGET_DIR:-target}/$profile
    pack "$built/quorate" quorate:dev
    pack "$built/quorate" quorate:next
    pack "$built/examples/quorate-e2e-writer" quorate-e2e-writer:dev
    # The testbed's own etcd is one.
    etcd=${TESTBED_HOME:-/var/lib/quorate-testbed}/cache/bin/etcd
    if [ -x "$etcd" ]; then
        # The members' own program is copied in at each start, and wants what it is linked to.
        for library in $(ldd "$built/quorate" | grep -o '/[^ ]*'); do
            libraries="${libraries:-} --file $(readlink -f "$library"):$library"
        done
        "$TESTBED/make-image" --tag etcd:e2e --output "$work/etcd.tar" ${libraries:-} \
            --file "$(readlink -f "$etcd"):/usr/local/bin/etcd" --entrypoint /usr/local/bin/etcd >/dev/null
        QUORATE_E2E_ARCHIVES=$QUORATE_E2E_ARCHIVES:$work/etcd.tar
        QUORATE_E2E_ETCD=etcd:e2e
        export QUORATE_E2E_ETCD
    fi
fi
QUORATE_E2E_LOAD="$TESTBED/testbed load-image"
QUORATE_E2E_TESTBED=$TESTBED/testbed
export QUORATE_E2E_ARCHIVES QUORATE_E2E_LOAD QUORATE_E2E_TESTBED
e2e() { cargo test --locked --test e2e -- --nocapture --test-threads=1 "$@"; }
e2e "$@"
if [ $# = 0 ]; then e2e --ignored nothing_was_refused; fi
