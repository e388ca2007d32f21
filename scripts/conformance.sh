#!/usr/bin/env bash
# Every scene of the demo with everything on the wire written down, then checked with the official packages.
# Usage: conformance.sh DIR_WITH_BINARIES
set -euo pipefail
cd "$(dirname "$0")/.."

capture=$(mktemp -d)
trap 'rm -rf "$capture"' EXIT
# Transcoding changes the audio alone, so one call over PCM is enough.
"$1/loadtest" demo --scene all --capture "$capture"
"$1/loadtest" demo --audio pcm24k --capture "$capture/pcm24k"
for call in "$capture"/*/; do
    echo "conformance: $(basename "$call")"
    conformance/run.sh "$call"
done
