#!/usr/bin/env bash
# Everything about single pieces, and the relay against the floor: times, instruction counts, one ratio.
# Some ten minutes, half of it building. CALLS=200 and ROUNDS=3 say how the ratio is measured; QUICK=1
# tries the script out.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
out=target/bench
calls=${CALLS:-200} rounds=${ROUNDS:-3} seconds=10 measure=1.5
[ -z "${QUICK:-}" ] || calls=20 rounds=2 seconds=5 measure=0.2
mkdir -p "$out"

say() { printf '\n== %s\n' "$*"; }

say "building the relay, the load test and the floor"
# Not in one command with linecard-bench, which gives tokio a test clock.
cargo build --locked --release -p linecard-relay -p linecard-loadtest -p linecard-floor -p linecard-receipt
say "building the pieces"
cargo build --locked --release -p linecard-bench --bin pieces
cargo bench --locked -p linecard-bench --bench pieces --no-run

say "the ratio to the floor: $calls calls, $rounds rounds"
"$target/release/receipt" run --calls "$calls" --only floor,pass --rounds "$rounds" --seconds "$seconds" --folder "$out/receipt"

say "instructions of each piece"
"$target/release/pieces" check 2>&1 | tee "$out/instructions.log" || true

say "times of each piece"
cargo bench --locked --quiet -p linecard-bench --bench pieces -- \
    --warm-up-time 0.3 --measurement-time "$measure" --noplot 2>&1 | tee "$out/times.log" | grep --line-buffered 'time:' ||
    { tail -n 20 "$out/times.log"; exit 1; }

# Criterion writes "name  time: [low middle high]", a long name on a line of its own.
times() {
    awk '/time: +\[/ { name = $1 == "time:" ? before : $1; sub(/.*\[/, ""); sub(/\].*/, "");
            printf "| %s | %s %s | %s %s | %s %s |\n", name, $1, $2, $3, $4, $5, $6 }
         NF == 1 { before = $1 }' "$out/times.log"
}

{
    cat <<TEXT
# Benches, $(date -u +%F)

## Against the floor

The floor is a relay that copies bytes and reads nothing: the least that a relay on tokio costs on this
machine. The ratio is the figure that means the same on another machine; CPU and delays do not.

$(sed -n '/^| what/,$p' "$out/receipt/summary.md")

## Instructions

One round of each piece, kernel left out. They are the same in every run, also on a busy machine, so a
difference is a change of the code. \`wake/...\` is a whole wake of a call, from read to write; the rest
are parts of one. What a piece is: \`pieces list\`. An update on purpose: \`make bench-baseline\`.

\`\`\`text
$(cat "$out/instructions.log")
\`\`\`

## Times

Lower bound, estimate and upper bound of one round. On a machine that does something else, look at the
lower bound of several runs. \`sockets/...\` holds the kernel's part and the bench's own far ends.

| piece | low | estimate | high |
|---|--:|--:|--:|
$(times)
TEXT
} >"$out/summary.md"

say "done: all of it is in $out/summary.md"
sed -n '/^## Against/,/^## Times/p' "$out/summary.md" | sed '$d'
