#!/usr/bin/env bash
# What `make test` and CI run, stage by stage, with the time each took.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=ci
bin="${CARGO_TARGET_DIR:-target}/$profile"
source scripts/stages.sh

docs() {
    # Private items are documented, so links to them work.
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --profile $profile --workspace --no-deps --document-private-items --quiet
}

# The tests' build leaves the binaries behind: nothing is compiled twice here.
demo() {
    "$bin/loadtest" demo
}

readme() {
    scripts/readme.sh "$bin"
}

stage fmt cargo fmt --all --check
stage clippy cargo clippy --locked --profile $profile --workspace --all-targets --quiet -- -D warnings
stage build cargo build --locked --profile $profile --workspace --lib --bins --tests
stage docs docs
stage demo demo
stage readme readme
stage load "$bin/loadtest" run --calls 20 --duration 5
stage test cargo test --locked --profile $profile --workspace --no-fail-fast

stages_report
