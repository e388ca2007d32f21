#!/usr/bin/env bash
# Control and one relay on this machine, one public port (8080). Usage: serve.sh DIR_WITH_BINARIES [ENV_FILE]
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1
env_file=${2:-linecard.env}
if [ ! -r "$env_file" ]; then
    echo "serve: $env_file is missing: cp examples/linecard.env linecard.env, then fill it in" >&2
    exit 64
fi
set -a
# shellcheck disable=SC1090
. "$env_file"
: "${CONTROL_PUBLIC_URL:=${PUBLIC_BASE_URL:-}}"
CONTROL_PUBLIC_URL=${CONTROL_PUBLIC_URL%/}
: "${CONTROL_DATA_DIR:=linecard-data}"
: "${CONTROL_LISTEN:=127.0.0.1:8081}"
: "${CONTROL_ADMIN_LISTEN:=127.0.0.1:9091}"
: "${CONTROL_LINK_LISTEN:=127.0.0.1:7443}"
: "${CONTROL_JOIN_TOKEN_FILE:=$CONTROL_DATA_DIR/join-token}"
: "${RELAY_NODE:=local}"
: "${RELAY_LISTEN:=127.0.0.1:8080}"
: "${RELAY_ADMIN_LISTEN:=127.0.0.1:9090}"
: "${RELAY_CONTROL_HTTP_URL:=http://$CONTROL_LISTEN}"
: "${RELAY_PUBLIC_URL:=wss://${CONTROL_PUBLIC_URL#https://}}"
: "${RELAY_JOIN_TOKEN_FILE:=$CONTROL_JOIN_TOKEN_FILE}"
set +a

rm -f "$CONTROL_JOIN_TOKEN_FILE"
"$bin/control" &
control=$!
trap 'kill "$control" ${relay:+"$relay"} 2>/dev/null || true; wait' EXIT INT TERM
until [ -s "$CONTROL_JOIN_TOKEN_FILE" ]; do
    kill -0 "$control" 2>/dev/null || { wait "$control"; exit $?; }
    sleep 0.1
done
"$bin/relay" &
relay=$!
echo "serve: the number's voice webhook is ${CONTROL_PUBLIC_URL}/v1/twilio/voice (POST); Ctrl-C stops both"
# Whichever ends first ends both.
wait -n "$control" "$relay"
