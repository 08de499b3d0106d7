#!/bin/sh
# Runs fuzz targets, so many seconds each, one after the other, and fails if one of them finds
# something: sh scripts/fuzz.sh SECONDS [TARGET...]. Without a target, all that are in fuzz/.
#
# Each goes on from fuzz/corpus/TARGET, which is not tracked, and from fuzz/seeds/TARGET, which is.
# CONTRIBUTING.md says what to do with a finding.
set -eu
cd "$(dirname "$0")/.."
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH

seconds=$1
shift
# What is built and how, the same for a run and for its repetition. Nothing here is unsafe code, so
# no sanitizer: what one allocation may take, the targets look after themselves.
toolchain=${FUZZ_TOOLCHAIN:-nightly}
how="--fuzz-dir fuzz --sanitizer none --debug-assertions"

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz; it compiles for some minutes"
    cargo install --locked cargo-fuzz
fi

# shellcheck disable=SC2086 # names, one a word
[ $# -gt 0 ] || set -- $(cargo "+$toolchain" fuzz list --fuzz-dir fuzz)
for target; do
    [ -f "fuzz/fuzz_targets/$target.rs" ] || {
        echo "fuzz: there is no target $target; there are: $(cargo "+$toolchain" fuzz list --fuzz-dir fuzz | tr '\n' ' ')" >&2
        exit 2
    }
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
found=
for target; do
    # shellcheck disable=SC2086 # flags
    cargo "+$toolchain" fuzz build $how "$target"
    mkdir -p "fuzz/corpus/$target"
    echo "fuzz: $target for $seconds seconds"
    # shellcheck disable=SC2086 # flags
    if cargo "+$toolchain" fuzz run $how "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 >"$log" 2>&1; then
        coverage=$(sed -n 's/.* \(cov: [0-9]*\) .*/\1/p' "$log" | tail -n 1)
        echo "fuzz: $target: $(grep '^Done ' "$log"), $coverage"
        continue
    fi
    found="$found $target"
    tail -n 60 "$log" >&2
    input=$(sed -n 's|.*Test unit written to .*\(fuzz/artifacts/.*\)|\1|p' "$log" | tail -n 1)
    if [ -n "$input" ]; then
        echo "fuzz: $target: the input is $input; to repeat it:" >&2
        echo "    cargo +$toolchain fuzz run $how $target $input" >&2
    else
        echo "fuzz: $target did not run to its end, and left no input" >&2
    fi
done
[ -z "$found" ] || {
    echo "fuzz: something was found by:$found" >&2
    exit 1
}
