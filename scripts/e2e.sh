#!/bin/sh
# Runs the end-to-end tests of the operator in the cluster that KUBECONFIG names, with the image
# under test and static images made here. scripts/with-kind.sh makes such a cluster and says what
# the variables are. Arguments go to the tests.
set -eu
cd "$(dirname "$0")/.."
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
target=${CARGO_TARGET_DIR:-target}
triple=$(uname -m)-unknown-linux-musl

sh scripts/prepare.sh image
CARGO_PROFILE_RELEASE_STRIP=symbols cargo build --release --locked --examples --target "$triple"
sh scripts/make-image.sh --tag quorate-e2e-writer:dev --output "$target/image/writer.tar" \
    --binary "$target/$triple/release/examples/quorate-e2e-writer"
# The same program under another name, to change to.
sh scripts/make-image.sh --tag quorate:next --output "$target/image/next.tar" \
    --binary "$target/$triple/release/quorate"
QUORATE_E2E_IMAGE=$QUORATE_IMAGE
QUORATE_E2E_ARCHIVES=$target/image/writer.tar:$target/image/next.tar
QUORATE_E2E_LOAD=$QUORATE_LOAD_IMAGE
export QUORATE_E2E_IMAGE QUORATE_E2E_ARCHIVES QUORATE_E2E_LOAD
cargo test --locked --test e2e -- --nocapture --test-threads=1 "$@"
