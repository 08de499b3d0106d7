#!/bin/sh
# Seeds faults into the planner, one at a time (.cargo/mutants.toml says where), and fails if the
# tests let one live that tests/excused-mutants.txt does not excuse.
#
# The stories judge first: they take no time, and a quick build is enough for them. What they let
# live is judged by the short walk as well, which is optimised. JOBS=2 at a time; arguments go to
# cargo-mutants, such as `--file src/plan/roll.rs` or `--shard 0/4`.
#
# A line in the list of excused ones is what cargo-mutants prints without line and column, then
# ` # ` and the reason:
#   src/plan/rules.rs: replace wait -> bool with true # only ever asked when it is true
set -eu
cd "$(dirname "$0")/.."

excused=tests/excused-mutants.txt
found=$(realpath -m "${CARGO_TARGET_DIR:-target}")/mutants
begun=$(date +%s)

if ! cargo mutants --version >/dev/null 2>&1; then
    echo "mutants: installing cargo-mutants; it compiles for some minutes"
    cargo install --locked cargo-mutants
fi

if unreasoned=$(grep -v -e '^#' -e '^$' -e ' # .' "$excused"); then
    echo "mutants: $excused gives no reason for:" >&2
    echo "$unreasoned" >&2
    exit 1
fi

rm -rf "$found"
mkdir -p "$found"

# Each job builds in its own copy of the tree; one build directory for all would make them wait for
# each other.
judge() {
    rc=0
    env -u CARGO_TARGET_DIR CARGO_INCREMENTAL=1 QUORATE_WALK=short \
        cargo mutants --output "$found" --jobs "${JOBS:-2}" "$@" || rc=$?
    # 2: some mutants lived, 3: some ran into the time limit (which a hanging planner should).
    case $rc in 0 | 2 | 3) ;; *) exit "$rc" ;; esac
}
count() { wc -l <"$found/mutants.out/$1.txt"; }

judge "$@" --timeout 30 -C --test=plan_stories -C --config=profile.release.package.quorate.opt-level=0
seeded=$(($(count caught) + $(count timeout) + $(count missed)))
hung=$(count timeout)
echo "mutants: the stories let $(count missed) of $seeded live; the walk judges those"
cp "$found/mutants.out/missed.txt" "$found/lived"
if [ -s "$found/lived" ]; then
    set --
    while read -r line; do
        set -- "$@" --re "^$(printf '%s' "$line" | sed 's/[][\.*^$()+?{}|]/\\&/g')\$"
    done <"$found/lived"
    judge "$@" --timeout 300 -C --test=plan_model
    hung=$((hung + $(count timeout)))
    cp "$found/mutants.out/missed.txt" "$found/lived"
fi
minutes=$((($(date +%s) - begun + 59) / 60))
echo "mutants: $seeded seeded, $(wc -l <"$found/lived") lived, $hung hung, in $minutes minutes"

sed -E 's/^([^:]+):[0-9]+:[0-9]+: /\1: /' "$found/lived" | sort -u >"$found/bare"
grep -v -e '^#' -e '^$' "$excused" | sed 's/ # .*//' | sort -u >"$found/excused" || true
comm -13 "$found/bare" "$found/excused" | sed 's/^/mutants: excused, and not among those: /'
lived=$(comm -23 "$found/bare" "$found/excused")
if [ -n "$lived" ]; then
    echo "mutants: lived, and not excused:" >&2
    echo "$lived" >&2
    exit 1
fi
echo "mutants: 0 missed but for $(wc -l <"$found/bare") excused"
