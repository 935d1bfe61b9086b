# Each target is one thing. `make help` lists them.
# Node's start is 70 ms shorter without these; npm may need them.
CERTIFICATES := $(NODE_EXTRA_CA_CERTS)
export NODE_EXTRA_CA_CERTS =
BIN := node_modules/.bin
.DEFAULT_GOAL := build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

node_modules: package.json package-lock.json
	NODE_EXTRA_CA_CERTS='$(CERTIFICATES)' npm ci --no-audit --no-fund
	@touch node_modules

SCHEMA := $(wildcard qapi/*.json)
CODEGEN := $(wildcard codegen/*.ts)
src/qapi/generated/stamp: node_modules $(SCHEMA) $(CODEGEN)
	node --import tsx codegen/main.ts qapi/qapi-schema.json src/qapi/generated
	@touch $@

generate: src/qapi/generated/stamp ## QAPI schema -> types, validators, tables, manual

build: generate ## bundle the daemon and the library into dist/
	node --import tsx codegen/build.ts

run: build ## start the daemon on a demo image, until Ctrl-C
	@test/demo/run.sh

test: build reference ## the whole suite
	node --import tsx test/config/run.ts

bench: build reference ## ours beside the reference and nbdkit, in one run
	node --import tsx test/bench/main.ts

nbd-conformance: generate ## the rules of the NBD specification: what our server does, and our client when another breaks them
	@node --import tsx test/protocol/conformance/main.ts
	@node --import tsx test/protocol/client-conformance/main.ts

soak: build ## random clients, good and hostile, for SOAK_SECONDS (600)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} SOAK_SEED=$${SOAK_SEED:-$$(date +%s)} \
	  $(BIN)/vitest run -c test/config/daemon.config.ts test/fault/soak.test.ts

fuzz: build ## random bytes for every parser, for FUZZ_SECONDS (60) each
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} \
	  $(BIN)/vitest run -c test/config/daemon.config.ts --testTimeout=0 test/fuzz

reference: ## install the reference and the real clients, where that may be done
	@test/config/install-reference.sh
	@test/config/install-libnbd.sh
	@test/config/install-iotests.sh

check: check-static unit ## the gate before a commit

check-static: format-check lint types

format: node_modules ## rewrite the sources in the one format
	$(BIN)/biome check --write .

format-check: node_modules
	$(BIN)/biome check .

lint: generate
	$(BIN)/oxlint --type-aware

types: generate
	$(BIN)/tsc

unit: generate ## fast tests
	$(BIN)/vitest run -c test/config/unit.config.ts

clean: ## remove what the targets above made
	rm -rf dist src/qapi/generated coverage

.PHONY: help generate build run test bench nbd-conformance soak fuzz reference check check-static format format-check lint types unit clean
