#!/usr/bin/env bash
# One demo call with everything on the wire written down, then checked with the official packages.
# Usage: conformance.sh DIR_WITH_BINARIES
set -euo pipefail
cd "$(dirname "$0")/.."

capture=$(mktemp -d)
trap 'rm -rf "$capture"' EXIT
for audio in mulaw pcm24k; do
    "$1/loadtest" demo --audio "$audio" --capture "$capture/$audio"
    conformance/run.sh "$capture/$audio"
done
