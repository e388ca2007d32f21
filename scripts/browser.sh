#!/usr/bin/env bash
# README's quick start with a real browser: a headless Chromium opens the page that the quick start ends with,
# control is restarted in mid-call, and the page must show every event once all the same. Then it opens /docs.
# Screenshots are in target/browser/. Usage: browser.sh DIR_WITH_BINARIES
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1
shots=${CARGO_TARGET_DIR:-target}/browser
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

fail() { # words
    echo "browser: $*" >&2
    tail -n 20 "$work"/playground/*.log "$work/chromium.log" >&2 || true
    exit 1
}

source scripts/blocks.sh

mkdir -p "$shots"
playground "$bin" 18280
# The browser is there before the call is.
mkfifo "$work/addresses"
python3 scripts/browser/look.py --control "$work/playground/control.pid" --shots "$shots" --seen "$work/seen" \
    <"$work/addresses" 2>"$work/chromium.log" &
looker=$!
pids+=("$looker")
exec 3>"$work/addresses"

play "Quick start for web developers"
page=$(cat "$work/answer")
# Its server has only just been started.
until_true 10 curl -fsS "${page%%#*}"
echo "$page" >&3
echo "$LINECARD/docs" >&3
exec 3>&-
wait "$looker" || fail "the browser saw something else"

# What the page has shown against what control has stored.
curl -s -N --max-time 3 "$LINECARD/v1/events?call=$CALL&after=0" -H "Authorization: Bearer $KEY" >"$work/stored" || [ $? = 28 ]
sed -n 's/^data:.*"seq":\([0-9]*\),"type":"\([a-z._]*\)".*/\1 \2/p' "$work/stored" | sed '/ call.ended$/q' >"$work/wanted"
grep -q 'call.ended$' "$work/wanted" || fail "the call has no end"
# Two kinds are for operators; the page does not ask for them.
grep -vE ' (call\.ending|stream\.[a-z]*)$' "$work/wanted" >"$work/wanted.page"
grep -vE ' (call\.ending|stream\.[a-z]*)$' "$work/seen" >"$work/seen.page"
diff "$work/wanted.page" "$work/seen.page" || fail "the page has not shown every event once and in order"
echo "browser: $(wc -l <"$work/seen") events on the page, across a restart of control; screenshots in $shots"
