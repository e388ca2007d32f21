# Linecard. `make demo` and `make test` do all of their own set-up on a fresh machine.

SHELL := /bin/bash
CARGO ?= cargo
PROFILE := ci
BIN := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help demo playground test serve check-long conformance sim chaos events fuzz fuzz-api autobahn browser load soak knee bench bench-baseline receipt readme-table deny

help: ## Show what there is.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## One phone call from webhook to goodbye, on this machine, without any account. SCENE=loss, kill-node, deploy and others, ARGS="--save out" and more: see README.
	@scripts/setup.sh build
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@$(BIN)/loadtest demo $(if $(SCENE),--scene $(SCENE)) $(ARGS)

playground: ## Control and a relay between a fake Twilio and a fake model, to try the API against: README's quick start.
	@scripts/setup.sh build readme
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@scripts/playground.sh $(BIN)

test: ## Format, lints, all tests, docs, one demo call, the README's commands: what CI runs.
	@scripts/setup.sh build test readme
	@scripts/test.sh

serve: ## Control and one relay on this machine, for a real phone number (settings: linecard.env).
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-control
	@scripts/serve.sh $(or $(CARGO_TARGET_DIR),target)/release $(ENV)

conformance: ## Check what relay and fakes really sent against the official OpenAI and Twilio packages.
	@scripts/setup.sh build conformance
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@scripts/conformance.sh $(BIN)

check-long: ## What takes longer than `make test` allows: conformance, every scene, events, the API asked at random, simulation, chaos, systemd units, fuzz, Autobahn, a browser, instruction counts.
	@scripts/setup.sh build test conformance python readme browser instructions
	@scripts/check-long.sh

sim: ## Hostile calls in simulated time, two minutes of new seeds. SIM_SEED=7 plays one and shows its call sheet.
	@scripts/setup.sh build
	@$(CARGO) run --locked --profile $(PROFILE) -p linecard-sim -- $(ARGS)

chaos: ## Model sockets cut 1,000 times under 40 calls: every one of them goes on. SCENE=kill-node, vanish, drain, control-down, db-down, partition, storm, mix: a fleet in real processes; ARGS="--calls 300 --times 20" and more: see README.
	@scripts/setup.sh build test
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@$(BIN)/loadtest chaos --scene $(or $(SCENE),cuts) --cuts 1000 --calls 40 $(ARGS)

fuzz: ## Ten seconds of new inputs for every decoder and for the call core (installs cargo-fuzz into target/).
	@scripts/setup.sh build
	@scripts/fuzz.sh

fuzz-api: ## 20,000 cases made from the OpenAPI document, with the keys of two tenants: no 5xx, every answer as described (installs schemathesis into target/). CASES=40000 for more.
	@scripts/setup.sh build python readme
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@scripts/fuzz-api.sh $(BIN) $(CASES)

autobahn: ## Autobahn|Testsuite against both WebSocket roles, where a Python 2.7 can be had.
	@scripts/setup.sh build
	@scripts/autobahn.sh

browser: ## README's quick start with its page in a headless Chromium, across a restart of control; screenshots in target/browser/.
	@scripts/setup.sh build browser
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@scripts/browser.sh $(BIN)

LOAD := $(or $(CARGO_TARGET_DIR),target)/load
MINUTES ?= 20

load: ## The load test of the README: 500 calls for a minute (release build). Table here, JSON and a page with plots in target/load/.
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-loadtest
	@$(RELEASE)/loadtest run --calls 500 --duration 60 --json $(LOAD)/load.json --html $(LOAD)/load.html $(ARGS)

soak: ## 300 calls for MINUTES=20: passes when no frame is lost and the relay's memory is flat.
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-loadtest
	@$(RELEASE)/loadtest run --calls 300 --duration $$(($(MINUTES) * 60)) --soak --json $(LOAD)/soak.json --html $(LOAD)/soak.html $(ARGS)

events: ## What was promised of events and voice webhooks, scene by scene on PostgreSQL (release build, 6 minutes). Table and JSON in target/load/; KEEP=1 puts both into bench/results/.
	@scripts/setup.sh build test
	@$(CARGO) build --locked --release -p linecard-control -p linecard-loadtest
	@scripts/events.sh $(RELEASE) $(LOAD) $(ARGS)

# The relay has a core of its own, the load test all others.
PINNED := $(if $(filter 1,$(shell nproc)),,--relay-cores 0 --own-cores 1-$(shell expr $$(nproc) - 1))

knee: ## How many calls the relay carries on one core with an added delay of at most 20 ms (p99, both ways), in steps of 10 seconds.
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-loadtest
	@$(RELEASE)/loadtest knee --calls 500 --bound-ms 20 $(PINNED) --json $(LOAD)/knee.json --html $(LOAD)/knee.html $(ARGS)

bench: ## Single pieces (times and instruction counts) and the relay against the floor, into target/bench/summary.md (10 minutes). CALLS=200 for the ratio.
	@scripts/setup.sh build instructions
	@scripts/bench.sh

bench-baseline: ## Count the instructions of the hot path's pieces and write bench/instructions.toml, on purpose.
	@scripts/setup.sh build instructions
	@$(CARGO) run --locked --release -p linecard-bench --bin pieces -- baseline

receipt: ## README's figures: floor, pass-through, batches, TLS, transcoding, shards, five rounds (35 minutes, a quiet machine). ARGS="--quick" tries it out.
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-loadtest -p linecard-floor -p linecard-receipt
	@$(RELEASE)/receipt run $(ARGS)

readme-table: ## Put the newest receipt of bench/results into README.
	@$(CARGO) run --locked --quiet --profile $(PROFILE) -p linecard-receipt -- readme

deny: ## Licences, sources and advisories of the dependencies (needs cargo-deny).
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny"; exit 1; }
	@cargo deny check
