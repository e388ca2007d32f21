#!/usr/bin/env bash
# Judges the systemd units: whether systemd understands every line, and how much of the system each service
# can reach (at most 1.2 of 10). Without systemd nothing is looked at.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo "units: systemd is not installed, so nothing was looked at"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r systemd/linecard-* "$work"
# The binaries need not be installed for the units to be judged.
sed -i 's#^ExecStart=/usr/lib/linecard/[a-z]*$#ExecStart=/bin/true#' "$work"/*.service
# A template is judged as one of its instances.
cp "$work/linecard-relay@.service" "$work/linecard-relay@a.service"

for unit in "$work"/*.service "$work"/*.socket; do
    case "$unit" in *@.service) continue ;; esac
    # Says nothing and succeeds when all is well; a line that it skips is a line on standard error.
    said=$(systemd-analyze verify --man=no "$unit" 2>&1) || { echo "units: $said" >&2; exit 1; }
    [ -z "$said" ] || { echo "units: $said" >&2; exit 1; }
done

for unit in "$work"/*.service; do
    case "$unit" in *@.service) continue ;; esac
    # The threshold is in tenths.
    verdict=$(systemd-analyze security --offline=true --threshold=12 "$unit") || { echo "$verdict" >&2; exit 1; }
    echo "units: ${verdict##*→ }"
done
