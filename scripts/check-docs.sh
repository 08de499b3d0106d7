#!/bin/sh
# Fails when the planner knows a reason for being blocked that docs/operations.md says nothing about,
# or the page has one that the planner does not know.
set -eu
cd "$(dirname "$0")/.."
LC_ALL=C
export LC_ALL

page=docs/operations.md
known=$(grep -rhoE '"([A-Z][a-z]+){2,}"' src/plan | tr -d '"' | sort -u)
told=$(sed -n '/^## Blocked/,/^## The quorum/s/^| `\([A-Za-z]*\)` |.*/\1/p' "$page" | sort -u)
[ "$known" = "$told" ] || {
    echo "$page and src/plan have different reasons for being blocked (page | planner):" >&2
    work=$(mktemp -d)
    echo "$told" >"$work/page"
    echo "$known" >"$work/plan"
    comm -3 "$work/page" "$work/plan" >&2
    rm -r "$work"
    exit 1
}
