#!/usr/bin/env bash
# Control and a relay between a fake Twilio and a fake model, to try the API against: README's quick start.
# Everything is on loopback and new at each start. Control is started again when it ends, as systemd would.
# Usage: playground.sh DIR_WITH_BINARIES [FOLDER]; PLAYGROUND_PORT is the first of seven ports (8080).
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(realpath "$1")
mkdir -p "${2:-target/playground}"
folder=$(realpath "${2:-target/playground}")
port=${PLAYGROUND_PORT:-8080}
public=127.0.0.1:$port
http=127.0.0.1:$((port + 1))
relay_admin=127.0.0.1:$((port + 2))
control_admin=127.0.0.1:$((port + 3))
link=127.0.0.1:$((port + 4))
twilio=127.0.0.1:$((port + 5))
model=127.0.0.1:$((port + 6))

declare -A pids
finish() {
    rm -f "$folder/env"
    kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # name command...
    local name=$1
    shift
    "$@" >>"$folder/$name.log" 2>&1 &
    pids[$name]=$!
    echo "$!" >"$folder/$name.pid"
}

lives() { # name
    kill -0 "${pids[$1]}" 2>/dev/null
}

give_up() { # name words
    echo "playground: $1 $2; the end of $folder/$1.log:" >&2
    tail -n 20 "$folder/$1.log" >&2
    exit 1
}

# Waits until a command succeeds, as long as a process lives and for 20 seconds.
until_true() { # name command...
    local name=$1 deadline=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        lives "$name" || give_up "$name" "has ended"
        [ "$SECONDS" -lt "$deadline" ] || give_up "$name" "did not come up"
        sleep 0.1
    done
}

start_control() {
    control_began=$SECONDS
    start control "$bin/control"
}

rm -rf "$folder/data" "$folder/env" "$folder"/*.log
# Settings of the shell are for something else.
for name in $(compgen -e); do
    case "$name" in
    CONTROL_* | RELAY_* | TWILIO_* | OPENAI_API_KEY | VOICE_AGENT_MODEL | GOOGLE_PLACES_API_KEY) unset "$name" ;;
    DATABASE_URL | PORT | PUBLIC_BASE_URL | FRONTEND_URL | ALLOWED_ORIGINS) unset "$name" ;;
    esac
done

export TWILIO_ACCOUNT_SID=AC00000000000000000000000000000001
TWILIO_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
CONTROL_API_KEYS=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export TWILIO_AUTH_TOKEN CONTROL_API_KEYS
# Nobody resolves this name but the fake Twilio, which knows where it is.
export CONTROL_PUBLIC_URL=https://playground.test RELAY_PUBLIC_URL=wss://playground.test
export TWILIO_API_URL=http://$twilio OPENAI_API_KEY=sk-playground-of-the-fake-model
export CONTROL_DATA_DIR=$folder/data CONTROL_AGENT_FILE=$folder/agents.toml CONTROL_JOIN_TOKEN_FILE=$folder/data/join-token
export CONTROL_LISTEN=$http CONTROL_ADMIN_LISTEN=$control_admin CONTROL_LINK_LISTEN=$link
export RELAY_NODE=playground RELAY_LISTEN=$public RELAY_ADMIN_LISTEN=$relay_admin RELAY_DRAIN_SECONDS=2
export RELAY_CONTROL_HTTP_URL=http://$http RELAY_JOIN_TOKEN_FILE=$CONTROL_JOIN_TOKEN_FILE
sed "s#MODEL#ws://$model/v1/realtime#" examples/playground/agents.toml >"$CONTROL_AGENT_FILE"

start model "$bin/loadtest" fake-model --listen "$model" --script examples/playground/model.json
start twilio "$bin/loadtest" fake-twilio --listen "$twilio" --account "$TWILIO_ACCOUNT_SID" --token "$TWILIO_AUTH_TOKEN" \
    --resolve "$CONTROL_PUBLIC_URL=$public" --callee examples/playground/callee.json
start_control
until_true model grep -q url= "$folder/model.log"
until_true twilio grep -q url= "$folder/twilio.log"
until_true control test -s "$CONTROL_JOIN_TOKEN_FILE"
start relay "$bin/relay"
until_true relay curl -fsS "http://$relay_admin/readyz"

cat >"$folder/env.new" <<ENV
# To be sourced: where the playground is, and what \`control\` needs to work beside it.
export LINECARD=http://$public MODEL=ws://$model/v1/realtime
export CONTROL_DATA_DIR=$(printf %q "$CONTROL_DATA_DIR") CONTROL_DATABASE_URL=$(printf %q "sqlite://$CONTROL_DATA_DIR/linecard.db")
unset CONTROL_SECRET_KEY
export PATH=$(printf %q "$bin"):"\$PATH"
ENV
mv "$folder/env.new" "$folder/env"
echo "playground: ready; in another terminal:  . $(realpath --relative-to=. "$folder")/env"
echo "playground: logs and process ids are in $folder; Ctrl-C ends everything"

while true; do
    for name in model twilio relay; do
        lives "$name" || give_up "$name" "has ended"
    done
    if ! lives control; then
        # One that ends at once would do so again.
        [ $((SECONDS - control_began)) -ge 2 ] || give_up control "has ended"
        echo "playground: control has ended and is started again"
        start_control
    fi
    # Until any of them ends.
    wait -n || true
done
