# balance: a CoreDNS plugin for DNS load balancing. "make" lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE      := .cache
BINARY     := $(CACHE)/coredns
LINT       := $(CACHE)/bin/golangci-lint-2.15.0
BENCHSTAT  := $(CACHE)/bin/benchstat
FUZZTIME   ?= 30s
GOTAGS     ?= grpcnotrace

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build CoreDNS with every stock plugin and balance
	@mkdir -p $(CACHE)
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -o $(BINARY) ./cmd/coredns

.PHONY: run
run: build ## Start the demo on 127.0.0.1:1053
	CGO_ENABLED=0 go build -o $(CACHE)/backend ./examples/backend
	@exec examples/demo

.PHONY: test
test: test-packages test-go test-manifests ## Pass every test; installs the Debian packages that they run

.PHONY: test-packages
test-packages:
	test/install test

.PHONY: test-go
test-go: ## Pass the tests of this module, with the race detector
	go test -race -timeout 40m ./...

.PHONY: test-manifests
test-manifests: ## Build and check what deploy holds; a module of its own, for kustomize is large
	cd test/manifests && go vet ./... && go test -count=1 ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

.PHONY: bench-answers
bench-answers: $(BENCHSTAT) ## Compare with loadbalance: time, bytes and allocations of an answer
	go test -run '^$$' -bench '$(or $(BENCH),ServeDNS|WriteMsg|Weighted|ShuffledUpstream)' -count 6 -benchtime 0.3s . | tee $(CACHE)/answers.txt
	$(BENCHSTAT) -row .name,/cores,/records -col /plugin $(CACHE)/answers.txt

.PHONY: bench-probes
bench-probes: ## Measure health checks at scale (root, Linux; SCENARIO=tcp100k for one)
	@mkdir -p $(CACHE)
	go build -tags $(GOTAGS) -o $(CACHE)/benchprobes ./internal/benchprobes
	$(CACHE)/benchprobes -scenario $(or $(SCENARIO),all) | tee $(CACHE)/probes.md

.PHONY: check
check: fmt-check vet lint ## Formatting, vet and lint

.PHONY: fmt-check
fmt-check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted: $$bad (run gofmt -w)"; exit 1; }

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: $(LINT)
	$(LINT) run ./...

$(LINT):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(CACHE)/bin/golangci-lint $(LINT)

$(BENCHSTAT):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(CACHE)
