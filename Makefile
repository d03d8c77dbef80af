# Rollcall. A bare `make` lists what there is to make; `make check` is exactly what CI runs.

export CGO_ENABLED = 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LINT    := go tool -modfile=tools/go.mod golangci-lint

# What these run is a process of its own, or packages whose own tests are raced: the detector would only make them take longer.
UNRACED := test/e2e examples internal/rehearsal

# SQLite's engine was translated from C. Under the detector its own code takes most of the tests' time, and it is not ours.
RACE := -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false

BENCH    ?= .
COUNT    ?= 1
FUZZTIME ?= 30s

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

build: ## Build bin/rollcall
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/rollcall ./cmd/rollcall

demo: build ## Run the demonstration; it needs only Go. KEEP=1 leaves it running
	bin/rollcall demo $(if $(KEEP),--keep)

deps: ## Install redis-server and PostgreSQL for the tests, where missing; nothing is started
	@scripts/deps redis postgres

test: deps ## Run the tests
	go test ./...

test-race: deps ## Run the tests, all but those of UNRACED under the race detector
	@scripts/deps compiler
	CGO_ENABLED=1 go test $(RACE) -timeout 20m $$(go list ./... | grep -v $(UNRACED:%=-e /%$$))
	go test -timeout 20m $(UNRACED:%=./%)
	go test -run Allocates ./verify

test-vault: deps ## Run the tests against a real Vault; the first time, Vault is compiled for some minutes
	cd test/vault && go vet ./... && go test -count=1 -timeout 20m ./...

bench: deps ## Run the benchmarks. BENCH=Fold COUNT=6 for some, repeatedly
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./...

fuzz: ## Fuzz every target for 30 s. FUZZTIME=10m for longer
	@scripts/fuzz $(FUZZTIME)

fmt: ## Format the Go files
	gofmt -s -w .

fmt-check: ## Fail if a Go file is not formatted
	@files=$$(gofmt -s -l .); test -z "$$files" || { echo "not formatted; make fmt does it:"; echo "$$files"; false; }

vet: ## Run go vet
	go vet ./...

lint: ## Run the linters of .golangci.yml; the first time, they are compiled for some minutes
	$(LINT) run ./...

layout: ## Check which package imports what
	go test -count=1 ./internal/layout

scripts-check: ## Check the shell scripts
	@scripts/scripts-check

words-check: ## Look for conflict markers and paths of somebody's machine
	@scripts/words-check

docs-check: build ## Run the commands in the documents, and follow their links
	@scripts/deps sqlite3
	@scripts/docs-links
	@scripts/docs-commands

up: ## Start the whole service in containers, and wait until it is ready
	@scripts/compose-up

down: ## Remove it, with its data and secrets
	@scripts/compose-down

compose-test: ## Test the containers, from nothing to removed
	@scripts/compose-test

check: check-code check-compose ## Run all checks: what CI runs

check-code: ## Run all checks but that of the containers
	@scripts/check fmt-check vet layout words-check scripts-check lint test-race test-vault docs-check

check-compose: ## Test the containers if an engine and the images are here
	@if scripts/compose-ready; then scripts/check compose-test; fi

clean: ## Remove what was built
	rm -rf bin coverage.out

.PHONY: help build demo deps test test-race test-vault bench fuzz fmt fmt-check vet lint layout \
	scripts-check words-check docs-check up down compose-test check check-code check-compose clean
.DEFAULT_GOAL := help
