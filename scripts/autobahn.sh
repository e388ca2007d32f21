#!/usr/bin/env bash
# Autobahn|Testsuite against the relay's WebSockets, as server and as client: no case may fail.
# The suite needs Python 2.7; where none can be had, one line says so and nothing is checked here:
# the relay's own protocol tests are the gate everywhere. Usage: autobahn.sh [PATH_OF_ECHO [SUMMARY_FILE]]
set -euo pipefail
cd "$(dirname "$0")/.."

echo_bin=${1:-}
summary=${2:-}
home=.venv/autobahn
wstest=$home/bin/wstest

skip() {
    echo "autobahn: skipped, $1"
    exit 0
}

# A Python 2.7 that runs: pyenv's shims exist without one behind them.
python2() {
    local candidate
    for candidate in python2.7 python2; do
        if PYENV_VERSION=2.7.18 "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if [ ! -x "$wstest" ]; then
    python=$(python2) || skip "there is no Python 2.7 (with pyenv: pyenv install 2.7.18)"
    export PYENV_VERSION=2.7.18 PIP_DISABLE_PIP_VERSION_CHECK=1
    rm -rf "$home" && mkdir -p "$home"
    log=$home/install.log
    # The last virtualenv that makes one for 2.7; beside it, so that nothing else is touched.
    "$python" -m pip install -q --target "$home/virtualenv" 'virtualenv<20.22' >"$log" 2>&1 &&
        PYTHONPATH=$home/virtualenv "$python" -m virtualenv -q "$home" >>"$log" 2>&1 &&
        "$home/bin/pip" install -q 'autobahntestsuite==25.10.1' >>"$log" 2>&1 ||
        skip "the suite cannot be installed (see $log)"
fi

if [ -z "$echo_bin" ]; then
    cargo build --locked --profile ci -p linecard-relay --example echo --quiet
    echo_bin=${CARGO_TARGET_DIR:-target}/ci/examples/echo
fi

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

until_true() { # seconds command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "autobahn: waited too long for: $*" >&2; cat "$work"/*.log >&2; return 1; }
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# 12 and 13 are compression, which the relay never offers.
skipped='"exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}'

"$echo_bin" serve >"$work/serve.log" 2>&1 &
pids+=($!)
until_true 10 grep -q listening "$work/serve.log"
url=$(grep -o 'ws://[^ ]*' "$work/serve.log")
printf '{"outdir": "%s", "servers": [{"agent": "linecard", "url": "%s"}], "cases": ["*"], %s}' \
    "$work/server" "$url" "$skipped" >"$work/server.json"
timeout 300 "$wstest" -m fuzzingclient -s "$work/server.json" >"$work/fuzzingclient.log" 2>&1

port=$(free_port)
printf '{"outdir": "%s", "url": "ws://127.0.0.1:%s", "cases": ["*"], %s}' "$work/client" "$port" "$skipped" >"$work/client.json"
"$wstest" -m fuzzingserver -w 0 -s "$work/client.json" >"$work/fuzzingserver.log" 2>&1 &
pids+=($!)
until_true 20 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1).close()"
timeout 300 "$echo_bin" ask "ws://127.0.0.1:$port" >"$work/ask.log" 2>&1 || { cat "$work/ask.log" >&2; exit 1; }

python3 - "$work" "$summary" <<'PY'
import collections, json, sys

work, summary = sys.argv[1:]
good = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}
lines, failed = [], []
for role in "server", "client":
    with open(f"{work}/{role}/index.json") as report:
        cases = json.load(report)["linecard"]
    counts = collections.Counter(case["behavior"] for case in cases.values())
    for name, case in cases.items():
        if case["behavior"] not in good or case["behaviorClose"] not in good:
            failed.append(f"{role} {name}: {case['behavior']}, close {case['behaviorClose']}")
    strict = [name for name, case in cases.items() if case["behavior"] == "NON-STRICT"]
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    lines.append(f"autobahn: as {role}, {len(cases)} cases: {words} (non-strict: {' '.join(sorted(strict))})")
    # A suite that ran nothing proves nothing.
    if len(cases) < 240:
        failed.append(f"{role}: only {len(cases)} cases")
print("\n".join(lines))
print("\n".join(sorted(failed)) if failed else "autobahn: 0 failed")
if summary:
    with open(summary, "w") as out:
        out.write("\n".join(lines + (failed or ["autobahn: 0 failed"])) + "\n")
sys.exit(bool(failed))
PY
