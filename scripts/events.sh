#!/usr/bin/env bash
# Every scene of `loadtest events`, one after the other, with the bound of each figure and whether it holds.
# Fails when a bound is broken or anything is lost, doubled or out of order. KEEP=1 keeps what holds.
# Usage: events.sh BIN OUT [arguments of loadtest events]
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1 out=$2
shift 2
mkdir -p "$out"
status=0
"$bin/loadtest" events --json "$out/events.json" --markdown "$out/events.md" "$@" || status=$?

printf '\n'
sed -n '/^| scene/,$p' "$out/events.md"
if [ "$status" = 0 ] && [ -n "${KEEP:-}" ]; then
    kept="bench/results/$(date -u +%F)-events"
    cp "$out/events.json" "$kept.json"
    cp "$out/events.md" "$kept.md"
    printf '\nkept as %s.md and .json\n' "$kept"
fi
exit "$status"
