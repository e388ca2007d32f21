#!/usr/bin/env bash
# Asks the API what nobody would ask: cases that Schemathesis makes from its own OpenAPI document, with
# the keys of two tenants. No answer may be a 5xx, or another one than the document says, and what is
# one tenant's is 404 for the other. Control and a relay run on loopback, with SQLite in a folder that
# goes away, or with CONTROL_DATABASE_URL. Usage: fuzz-api.sh DIR_WITH_BINARIES [CASES] [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1
cases_min=${2:-20000}
seed=${3:-$(date +%j%H%M)}
here=$PWD/scripts/fuzz-api
target=$(realpath -m "${CARGO_TARGET_DIR:-target}/fuzz-api")
venv=$target/venv
mkdir -p "$target"
if [ ! -x "$venv/bin/schemathesis" ] || ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# Waits until a command succeeds, for so many seconds.
until_true() {
    local deadline=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "fuzz-api: waited too long for: $*" >&2; tail -n 20 "$work"/*.log >&2; return 1; }
        sleep 0.2
    done
}

# A carrier whose hooks reach nobody: nothing leaves this machine, and calls are placed all the same.
account=AC00000000000000000000000000000001
"$bin/loadtest" fake-twilio --account $account --token fuzz-token >"$work/carrier.log" 2>&1 &
pids+=($!)
until_true 10 grep -q url= "$work/carrier.log"
carrier=$(grep -o 'url=[^ ]*' "$work/carrier.log" | sed -n 1p | sed 's#^url=##; s#/$##')

url=http://127.0.0.1:28081
{
    cat <<ENV
CONTROL_PUBLIC_URL=https://fuzz.test
CONTROL_API_KEYS=fuzz-operator-000000000000000000
CONTROL_DATA_DIR=$work/data
CONTROL_LISTEN=127.0.0.1:28081
CONTROL_ADMIN_LISTEN=127.0.0.1:29091
CONTROL_LINK_LISTEN=127.0.0.1:27443
CONTROL_DIAL_COUNTRIES=US,+1,+4,+9
CONTROL_AGENT_FILE=$work/agents.toml
RELAY_LISTEN=127.0.0.1:28080
RELAY_ADMIN_LISTEN=127.0.0.1:29090
TWILIO_ACCOUNT_SID=$account
TWILIO_AUTH_TOKEN=fuzz-token
TWILIO_API_URL=$carrier
OPENAI_API_KEY=sk-fuzz-0000000000000000
CONTROL_LOG=warn
RELAY_LOG=warn
ENV
    if [ -n "${CONTROL_DATABASE_URL:-}" ]; then echo "CONTROL_DATABASE_URL=$CONTROL_DATABASE_URL"; fi
} >"$work/linecard.env"
# Nobody speaks with this agent: sessions are asked for, and no page opens their streams.
cat >"$work/agents.toml" <<'TOML'
default = "front-desk"
[[agent]]
name = "front-desk"
instructions = "You answer the phone."
provider = { kind = "openai_realtime", url = "ws://127.0.0.1:9/v1/realtime" }
TOML
scripts/serve.sh "$bin" "$work/linecard.env" >"$work/serve.log" 2>&1 &
pids+=($!)
until_true 30 curl -fsS http://127.0.0.1:29090/readyz

operate() { # control's own commands, beside the process that serves
    (set -a && . "$work/linecard.env" && set +a && "$bin/control" "$@")
}
for tenant in acme owner; do operate tenant create "$tenant" >>"$work/operate.log"; done
keys=()
for tenant in default acme owner; do
    operate tenant set "$tenant" --requests-second-max 100000 >>"$work/operate.log"
    keys+=("$(operate key create --tenant "$tenant" --name fuzz)")
done

curl -fsS "$url/openapi.json" >"$target/openapi.json"
# A third tenant, for whom nobody asks, has one of everything.
foreign() { "$venv/bin/python" "$here/foreign.py" "$1" "$url" "${keys[2]}" "$work/belongings.json" "${@:2}"; }
foreign make

# Every operation gets as many cases as it takes for both keys together; a stream of events never
# ends, so that its operation is left out. Keys are not revoked here: the one that asks may be hit.
operations=$("$venv/bin/python" -c 'import json, sys
paths = json.load(open(sys.argv[1]))["paths"].values()
print(sum(len([m for m in methods if m != "parameters"]) for methods in paths) - 2)' "$target/openapi.json")
each=$((cases_min / (2 * operations) + 1))
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
made=0
for place in 0 1; do
    report=$target/report-$place.ndjson
    rm -f "$report"
    echo "fuzz-api: key $((place + 1)) of 2, at least $each cases for each of $operations operations, seed $seed"
    status=0
    # It leaves a folder of its own where it runs.
    (cd "$target" && exec timeout "$((60 + cases_min / 8))" "$venv/bin/schemathesis" run "$target/openapi.json" --url "$url" \
        -H "Authorization: Bearer ${keys[$place]}" --checks "$checks" --phases examples,coverage,fuzzing \
        --max-examples "$each" --seed "$((seed + place))" --workers 2 --request-timeout 10 --warnings off --no-color \
        --exclude-operation-id watchEvents --exclude-operation-id revokeKey --generation-with-security-parameters false \
        --continue-on-failure --report ndjson --report-ndjson-path "$report" >"$target/schemathesis-$place.log" 2>&1) || status=$?
    if [ "$status" != 0 ]; then
        echo "fuzz-api: found something, or took too long (status $status); see $target/schemathesis-$place.log" >&2
        tail -n 120 "$target/schemathesis-$place.log" >&2
        tail -n 20 "$work/serve.log" >&2
        exit 1
    fi
    count=$("$venv/bin/python" "$here/count.py" "$report")
    made=$((made + count))
    echo "fuzz-api: $count cases"
    # A key that is good no more would have been answered 401 all the time.
    curl -fsS -H "Authorization: Bearer ${keys[$place]}" "$url/v1/tenant" >/dev/null
done
foreign check "$target/openapi.json" "${keys[1]}" "${keys[0]}"
curl -fsS http://127.0.0.1:29091/livez >/dev/null
! grep -i panicked "$work/serve.log"
[ "$made" -ge "$cases_min" ] || { echo "fuzz-api: only $made cases of $cases_min were made" >&2; exit 1; }
echo "fuzz-api: $made cases, no 5xx, every answer as described; what is another tenant's is 404"
