#!/usr/bin/env bash
# Runs the commands of README.md as they are written, against a fake Twilio and a fake model in place of the
# real accounts. Usage: readme.sh DIR_WITH_BINARIES
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1
bin_path=$(realpath "$bin")
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

fail() { # words
    echo "readme: $*" >&2
    tail -n 20 "$work"/*.log "$work"/playground/*.log >&2 || true
    exit 1
}

source scripts/blocks.sh

address() { # file word: host:port after the word in a listening line
    grep -o "$2[^ ]*" "$1" | sed -n 1p | sed -E 's#^[a-z]+=([a-z]+://)?##; s#/.*##'
}

# What is here is a playground: a number that calls, an agent, an event stream.
echo "readme: Quick start for web developers"
playground "$bin" 18180
play "Quick start for web developers"
echo "readme: The API in short"
play "The API in short"
echo "readme: Move a voice backend off a serverless host"
play "Move a voice backend off a serverless host"

echo "readme: The first phone call"
first_call=$(commands "The first phone call")
grep -qx 'cp examples/linecard.env linecard.env' <<<"$first_call"
grep -qx 'make serve' <<<"$first_call"
doctor='(set -a; . ./linecard.env; target/release/control doctor)'
grep -qxF "$doctor" <<<"$first_call"
account=AC00000000000000000000000000000001
"$bin/loadtest" fake-model >"$work/model.log" 2>&1 &
pids+=($!)
"$bin/loadtest" fake-twilio --account $account --token readme-token \
    --resolve https://readme.test=127.0.0.1:18080 >"$work/twilio.log" 2>&1 &
pids+=($!)
until_true 10 grep -q url= "$work/model.log"
until_true 10 grep -q url= "$work/twilio.log"
# What a person fills in by hand.
sed -e 's#^CONTROL_PUBLIC_URL=.*#CONTROL_PUBLIC_URL=https://readme.test#' \
    -e "s#^TWILIO_ACCOUNT_SID=.*#TWILIO_ACCOUNT_SID=$account#" \
    -e 's#^TWILIO_AUTH_TOKEN=.*#TWILIO_AUTH_TOKEN=readme-token#' \
    -e 's#^OPENAI_API_KEY=.*#OPENAI_API_KEY=sk-readme-0000000000000000#' \
    -e 's#^CONTROL_API_KEYS=.*#CONTROL_API_KEYS=readme-key-000000000000000000000000#' \
    -e "s#^CONTROL_AGENT_FILE=.*#CONTROL_AGENT_FILE=$work/agents.toml#" \
    examples/linecard.env >"$work/linecard.env"
! grep -q 'YOUR-TUNNEL\|=$' "$work/linecard.env"
sed "s#^model = .*#&\nurl = \"ws://$(address "$work/model.log" url=)/v1/realtime\"#" examples/agents.toml >"$work/agents.toml"
# The playground's settings are in this shell.
cat >>"$work/linecard.env" <<ENV
TWILIO_API_URL=http://$(address "$work/twilio.log" url=)
CONTROL_DATA_DIR=$work/data
CONTROL_DATABASE_URL=
CONTROL_LISTEN=127.0.0.1:18081
CONTROL_ADMIN_LISTEN=127.0.0.1:19091
CONTROL_LINK_LISTEN=127.0.0.1:17443
RELAY_LISTEN=127.0.0.1:18080
RELAY_ADMIN_LISTEN=127.0.0.1:19090
ENV
scripts/serve.sh "$bin" "$work/linecard.env" >"$work/serve.log" 2>&1 &
pids+=($!)
until_true 20 curl -fsS http://127.0.0.1:19090/readyz
# The public address is nobody's, so the doctor finds something.
doctor=${doctor/.\/linecard.env/$work/linecard.env}
echo "readme: $ $doctor"
bash -c "${doctor/target\/release/$bin_path}" >"$work/doctor" || [ $? = 1 ]
head -n 12 "$work/doctor"
grep -q 'https://readme.test/v1/twilio/voice' "$work/doctor" || fail "the doctor has no addresses for the console"
# Somebody calls the number, hears the greeting and hangs up.
curl -fsS -X POST "http://$(address "$work/twilio.log" url=)/_fake/calls" -o /dev/null -d '{
    "from": "+15551230001", "to": "+15551230002",
    "voice_url": "https://readme.test/v1/twilio/voice", "status_url": "https://readme.test/v1/twilio/status",
    "caller": [{"do": "wait_for_agent"}, {"do": "hang_up"}]}'
is_over() {
    curl -fsS http://127.0.0.1:18080/v1/calls -H "Authorization: Bearer readme-key-000000000000000000000000" |
        grep -q '"end_reason":"caller_hung_up"'
}
until_true 30 is_over

# The load test's commands, with small reports in place of the reader's.
echo "readme: What one node carries"
for name in before after before-1 before-2 after-1 after-2; do
    [ -e "$work/before.json" ] && cp "$work/before.json" "$work/$name.json" 2>/dev/null && continue
    "$bin/loadtest" run --calls 3 --duration 2 --json "$work/$name.json" >"$work/load.log" || fail "no load"
done
while IFS= read -r command; do
    words=${command%%#*}
    case "$words" in
    make*) grep -q "^$(awk '{print $2}' <<<"$words"): " Makefile || fail "no such target: $words" ;;
    # Whatever the reader has is not here: the options at least must be real.
    *--target*) for option in $(grep -o -- '--[a-z-]*' <<<"$words"); do
            "$bin/loadtest" run --help | grep -q -- "$option " || fail "no such option: $option"
        done ;;
    *) echo "readme: $ $words"
        (cd "$work" && "$bin_path/loadtest" ${words#*loadtest }) | sed -n 1,4p ;;
    esac
done < <(commands "What one node carries")
echo "readme: every command works"
