#!/bin/sh
# Runs a command, and fails if a tracked file has changed meanwhile.
set -eu

tracked() { git diff --no-ext-diff --binary HEAD 2>/dev/null | cksum; }

before=$(tracked || true)
"$@"
if [ "$before" != "$(tracked || true)" ]; then
    echo "verify: tracked files changed while the checks ran; these now differ from HEAD:" >&2
    git diff --stat HEAD >&2
    exit 1
fi
