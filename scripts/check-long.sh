#!/usr/bin/env bash
# What `make check-long` and CI run beyond `make test`, stage by stage, with the time each took.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=ci
bin="${CARGO_TARGET_DIR:-target}/$profile"
source scripts/stages.sh

# The whole workspace with its tests, as `make test` builds it: what that has compiled is not compiled again.
stage build cargo build --locked --profile $profile --workspace --lib --bins --tests
# Plays every scene of the demo, and checks what was on the wire.
stage conformance scripts/conformance.sh "$bin"
# Every operation of the API, asked at random; two minutes with the installation of its tools.
stage fuzz-api scripts/fuzz-api.sh "$bin" 10000
stage load "$bin/loadtest" run --calls 100 --duration 15
stage chaos "$bin/loadtest" chaos --cuts 60 --calls 20
# A caller talks on while a relay is killed, and while one takes over from the other.
stage demo-kill-node "$bin/loadtest" demo --scene kill-node
stage demo-deploy "$bin/loadtest" demo --scene deploy
# A small part of every scene: judged by what came, not by when.
stage events "$bin/loadtest" events --quick
# systemd units, where systemd is installed; seconds.
stage units scripts/units.sh
stage simulation "$bin/sim" --seconds 120
stage autobahn scripts/autobahn.sh
stage browser scripts/browser.sh "$bin"
# A release build of the relay's library and one small program; counting itself takes seconds.
stage instructions cargo run --locked --release --quiet -p linecard-bench --bin pieces -- check
stage fuzz scripts/fuzz.sh

stages_report
