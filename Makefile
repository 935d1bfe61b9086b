# Each target is one thing. `make help` lists them.
export NODE_EXTRA_CA_CERTS =
BIN := node_modules/.bin
.DEFAULT_GOAL := build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

node_modules: package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch node_modules

SCHEMA := $(wildcard qapi/*.json)
CODEGEN := $(wildcard codegen/*.ts)
src/qapi/generated/stamp: node_modules $(SCHEMA) $(CODEGEN)
	node --import tsx codegen/main.ts qapi/qapi-schema.json src/qapi/generated
	@touch $@

generate: src/qapi/generated/stamp ## QAPI schema -> types, validators, tables, manual

build: generate ## bundle the daemon and the library into dist/
	node --import tsx codegen/build.ts

check: format-check lint types test-layers unit ## the gate before a commit

format: node_modules ## rewrite the sources in the one format
	$(BIN)/biome check --write .

format-check: node_modules
	$(BIN)/biome check .

lint: generate
	$(BIN)/oxlint --type-aware

types: generate
	$(BIN)/tsc

test-layers: generate
	$(BIN)/vitest run -c test/config/unit.config.ts test/architecture

unit: generate ## fast tests
	$(BIN)/vitest run -c test/config/unit.config.ts

clean: ## remove what the targets above made
	rm -rf dist src/qapi/generated coverage

.PHONY: help generate build check format format-check lint types test-layers unit clean
