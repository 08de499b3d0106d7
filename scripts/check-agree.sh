#!/bin/sh
# Fails where two files that must say the same do not: the reasons for being blocked, the version of
# the program, the version of Rust.
set -eu
cd "$(dirname "$0")/.."
LC_ALL=C
export LC_ALL

failed=
# agree WHAT FILE VALUE FILE VALUE
agree() {
    [ "$3" = "$5" ] || {
        echo "$1 differs: $2 has ${3:-none}, $4 has ${5:-none}" >&2
        failed=yes
    }
}
quoted() { sed -n "s/^$2 *= *\"\(.*\)\".*/\1/p" "$1" | head -n 1; }
argument() { sed -n "s/^ARG $1=//p" deploy/Dockerfile; }

page=docs/operations.md
# The planner's, and the one of the executor that reads the spec.
known=$({
    grep -rhoE '"([A-Z][a-z]+){2,}"' src/plan
    sed -n 's/^pub const SPEC_REFUSED: &str = \(.*\);$/\1/p' src/execute/pods/report.rs
} | tr -d '"' | sort -u | tr '\n' ' ')
told=$(sed -n '/^## Blocked/,/^## The quorum/s/^| `\([A-Za-z]*\)` |.*/\1/p' "$page" | sort -u | tr '\n' ' ')
agree "what blocks" "$page" "$told" "the code" "$known"

version=$(quoted Cargo.toml version)
for key in version appVersion; do
    agree "the version ($key)" charts/quorate/Chart.yaml \
        "$(sed -n "s/^$key: //p" charts/quorate/Chart.yaml)" Cargo.toml "$version"
done
agree "the version" deploy/Dockerfile "$(argument VERSION)" Cargo.toml "$version"
agree "Rust's version" deploy/Dockerfile "$(argument RUST)" \
    rust-toolchain.toml "$(quoted rust-toolchain.toml channel)"

[ -z "$failed" ]
