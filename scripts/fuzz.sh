#!/usr/bin/env bash
# New inputs for every fuzz target, for some seconds each, starting from those in fuzz/corpus.
# Without a sanitizer, so that the stable toolchain does. Usage: fuzz.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
shift || true
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
export PATH="$tools/bin:$PATH"

if ! cargo fuzz --version >/dev/null 2>&1; then
    mkdir -p target
    cargo install -q --locked --root "$tools" cargo-fuzz --version 0.13.2 >"$PWD/target/cargo-fuzz.log" 2>&1 || {
        echo "fuzz: skipped, cargo-fuzz cannot be installed (see target/cargo-fuzz.log)"
        exit 0
    }
fi

# libFuzzer's entry into a library wants no sanitizer, only counters of what was reached.
(cd fuzz/targets && cargo fuzz build --fuzz-dir . --target-dir "$build" --sanitizer none 2>&1 | grep -v '^ *Compiling' || exit 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=target/fuzz-found # inputs that failed
mkdir -p "$found"

if [ $# -gt 0 ]; then targets=("$@"); else
    targets=()
    for path in fuzz/targets/*.rs; do targets+=("$(basename "$path" .rs)"); done
fi

run() { # target
    local target=$1 log=$work/$1.log
    mkdir -p "$work/$target"
    # What is new goes to the first folder; the kept inputs are only read.
    if "$build"/*/release/"$target" "$work/$target" "fuzz/corpus/$target" -max_total_time="$seconds" \
        -max_len=4096 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -artifact_prefix="$found/$target-" >"$log" 2>&1; then
        awk -v target="$target" '/stat::number_of_executed_units/ { runs = $2 } /cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
            END { printf "fuzz: %-12s %9d inputs, %6d places reached\n", target, runs, cov }' "$log"
    else
        echo "fuzz: $target FAILED; once it is fixed, keep the input in fuzz/corpus/$target"
        grep -v '^#' "$log" | tail -n 30
        return 1
    fi
}
export -f run
export work build seconds found
# As many at once as there are cores; xargs fails when one of them does.
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run {}'
