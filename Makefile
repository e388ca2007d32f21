# Linecard. `make demo` and `make test` do all of their own set-up on a fresh machine.

SHELL := /bin/bash
CARGO ?= cargo
PROFILE := ci
BIN := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)

.PHONY: help demo test serve check-long conformance load bench deny

help: ## Show what there is.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## One phone call from webhook to goodbye, on this machine, without any account. ARGS="--save out" and more: see README.
	@scripts/setup.sh build
	@$(CARGO) build --locked --profile $(PROFILE) -p linecard-relay -p linecard-control -p linecard-loadtest
	@$(BIN)/loadtest demo $(ARGS)

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

check-long: conformance ## Everything that takes longer than `make test` allows: conformance, a short load.
	@$(BIN)/loadtest run --calls 100 --duration 15

load: ## The load test of the README: 500 calls for a minute (release build).
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p linecard-relay -p linecard-loadtest
	@$(or $(CARGO_TARGET_DIR),target)/release/loadtest run --calls 500 --duration 60 $(ARGS)

bench: ## Criterion benches of single pieces.
	@scripts/setup.sh build
	@$(CARGO) bench -p linecard-bench

deny: ## Licences, sources and advisories of the dependencies (needs cargo-deny).
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny"; exit 1; }
	@cargo deny check
