#!/usr/bin/env bash
# Runs the commands of README.md from "The first phone call" on, as written, against a fake Twilio and
# a fake model in place of the real accounts. Usage: readme.sh DIR_WITH_BINARIES
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

# The commands of one section: its ```sh blocks.
commands() {
    awk -v want="## $1" '/^## /{here = ($0 == want)} here && /^```sh$/{code = 1; next} /^```$/{code = 0} code' README.md
}

# Waits until a command succeeds, for so many seconds.
until_true() {
    local deadline=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "readme: waited too long for: $*" >&2; tail -n 20 "$work"/*.log >&2; return 1; }
        sleep 0.2
    done
}

address() { # file word: host:port after the word in a listening line
    grep -o "$2[^ ]*" "$1" | head -n 1 | sed -E 's#^[a-z]+=([a-z]+://)?##; s#/.*##'
}

export TWILIO_ACCOUNT_SID=AC00000000000000000000000000000001
"$bin/loadtest" fake-model >"$work/model.log" 2>&1 &
pids+=($!)
"$bin/loadtest" fake-twilio --account $TWILIO_ACCOUNT_SID --token readme-token \
    --resolve https://readme.test=127.0.0.1:18080 >"$work/twilio.log" 2>&1 &
pids+=($!)
until_true 10 grep -q url= "$work/model.log"
until_true 10 grep -q url= "$work/twilio.log"

echo "readme: The first phone call"
first_call=$(commands "The first phone call")
grep -qx 'cp examples/linecard.env linecard.env' <<<"$first_call"
grep -qx 'make serve' <<<"$first_call"
# What a person fills in by hand.
sed -e 's#^CONTROL_PUBLIC_URL=.*#CONTROL_PUBLIC_URL=https://readme.test#' \
    -e "s#^TWILIO_ACCOUNT_SID=.*#TWILIO_ACCOUNT_SID=$TWILIO_ACCOUNT_SID#" \
    -e 's#^TWILIO_AUTH_TOKEN=.*#TWILIO_AUTH_TOKEN=readme-token#' \
    -e 's#^OPENAI_API_KEY=.*#OPENAI_API_KEY=sk-readme-0000000000000000#' \
    -e 's#^CONTROL_API_KEYS=.*#CONTROL_API_KEYS=readme-key-000000000000000000000000#' \
    -e "s#^CONTROL_AGENT_FILE=.*#CONTROL_AGENT_FILE=$work/agents.toml#" \
    examples/linecard.env >"$work/linecard.env"
! grep -q 'YOUR-TUNNEL\|=$' "$work/linecard.env"
sed "s#^model = .*#&\nurl = \"ws://$(address "$work/model.log" url=)/v1/realtime\"#" examples/agents.toml >"$work/agents.toml"
cat >>"$work/linecard.env" <<ENV
TWILIO_API_URL=http://$(address "$work/twilio.log" url=)
CONTROL_DATA_DIR=$work/data
CONTROL_LISTEN=127.0.0.1:18081
CONTROL_ADMIN_LISTEN=127.0.0.1:19091
CONTROL_LINK_LISTEN=127.0.0.1:17443
RELAY_LISTEN=127.0.0.1:18080
RELAY_ADMIN_LISTEN=127.0.0.1:19090
ENV
scripts/serve.sh "$bin" "$work/linecard.env" >"$work/serve.log" 2>&1 &
pids+=($!)
until_true 20 curl -fsS http://127.0.0.1:19090/readyz

echo "readme: For web developers"
export LINECARD=http://127.0.0.1:18080 KEY=readme-key-000000000000000000000000 CALL=
while IFS= read -r command; do
    echo "readme: $ ${command//$KEY/\$KEY}"
    # A stream of events ends when curl's time is over: 28.
    answer=$(bash -c "$command") || [ $? = 28 ]
    printf '%s\n' "$answer" | cut -c1-200 | head -n 12
    if [ -z "$CALL" ]; then
        CALL=$(grep -o '"id": *"c_[0-9a-f]*"' <<<"$answer" | head -n 1 | grep -o 'c_[0-9a-f]*')
        [ -n "$CALL" ] || { echo "readme: no call was started" >&2; exit 1; }
        export CALL
    fi
    case "$command" in
    *events*) grep -q '^event: *agent.ready' <<<"$answer" || { echo "readme: no agent in the events" >&2; tail -n 20 "$work"/*.log >&2; exit 1; } ;;
    *) ! grep -q '"status": *[45][0-9][0-9]' <<<"$answer" || { echo "readme: refused" >&2; exit 1; } ;;
    esac
done < <(commands "For web developers" | sed -e ':join' -e '/\\$/N; s/\\\n//; t join')

# The load test's commands, with small reports in place of the reader's.
echo "readme: What one node carries"
carries=$(commands "What one node carries")
for name in before after before-1 before-2 after-1 after-2; do
    [ -e "$work/before.json" ] && cp "$work/before.json" "$work/$name.json" 2>/dev/null && continue
    "$bin/loadtest" run --calls 3 --duration 2 --json "$work/$name.json" >"$work/load.log" || { cat "$work/load.log" >&2; exit 1; }
done
while IFS= read -r command; do
    words=${command%%#*}
    case "$words" in
    make*) grep -q "^$(awk '{print $2}' <<<"$words"): " Makefile || { echo "readme: no such target: $words" >&2; exit 1; } ;;
    # Whatever the reader has is not here: the options at least must be real.
    *--target*) for option in $(grep -o -- '--[a-z-]*' <<<"$words"); do
            "$bin/loadtest" run --help | grep -q -- "$option " || { echo "readme: no such option: $option" >&2; exit 1; }
        done ;;
    *) echo "readme: $ $words"
        (cd "$work" && "$bin_path/loadtest" ${words#*loadtest }) | sed -n 1,4p ;;
    esac
done <<<"$carries"
echo "readme: every command works"
