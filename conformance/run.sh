#!/usr/bin/env bash
# Validates a captured call with the official packages. Usage: conformance/run.sh DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../.venv/conformance"

if [ ! -x "$venv/bin/python" ] || ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    if ! python3 -m venv "$venv"; then
        echo "conformance: python3's venv module is missing (Debian, Ubuntu: apt-get install python3-venv)" >&2
        exit 1
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

echo "conformance: the validator itself"
"$venv/bin/python" "$here/validate.py" --self-check
echo "conformance: the captured call"
"$venv/bin/python" "$here/validate.py" "$1"
