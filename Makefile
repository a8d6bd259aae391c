# balance: a CoreDNS plugin for DNS load balancing. "make" lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE      := .cache
BINARY     := $(CACHE)/coredns
LINT       := $(CACHE)/bin/golangci-lint-2.15.0
BENCHSTAT  := $(CACHE)/bin/benchstat
KUBERNETES := $(CACHE)/kubernetes
FUZZTIME   ?= 30s
GOTAGS     ?= grpcnotrace
GOTESTSUM  := $(CACHE)/bin/gotestsum-1.13.0
ACTIONLINT := $(CACHE)/bin/actionlint-1.7.12
# Runs the tests of a module. Some of them depend on real servers and a busy machine, so those that fail, if they are few and have
# no data race, are run once more; $(CACHE)/flaky lists those that passed only then.
GOTEST     := $(CURDIR)/$(GOTESTSUM) --format pkgname --hide-summary skipped --rerun-fails=1 --rerun-fails-max-failures 5 \
              --rerun-fails-run-root-test --rerun-fails-abort-on-data-race --rerun-fails-report $(CURDIR)/$(CACHE)/flaky --packages ./... --
# Builds a program of the module tools: $(TOOL)/NAME PACKAGE.
TOOL       := go build -C tools -o $(CURDIR)/$(CACHE)

# What a build says it is, and the time of all that is in an image or an archive.
VERSION           ?= $(shell git describe --tags --always --dirty --match 'v[0-9]*' 2>/dev/null || echo devel)
REVISION          ?= $(shell git rev-parse HEAD 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
STAMP             := github.com/coredns/coredns/coremain.GitCommit
IMAGE             ?= localhost/coredns-balance
DIST              ?= dist
# The Go that makes images and releases; another one makes other bytes.
RELEASE_GO        := GOTOOLCHAIN=go$(shell cat .go-version)
RELEASE           = $(RELEASE_GO) go run -C release . -tree .. -out $(abspath $(DIST)) -version $(VERSION) \
                    -revision "$(REVISION)" -epoch $(SOURCE_DATE_EPOCH) -image $(IMAGE)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-23s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build CoreDNS with every stock plugin and balance
	@mkdir -p $(CACHE)
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -ldflags '-X $(STAMP)=balance-$(VERSION)' -o $(BINARY) ./cmd/coredns

.PHONY: run
run: build ## Start the demo on 127.0.0.1:1053
	CGO_ENABLED=0 go build -o $(CACHE)/backend ./examples/backend
	@exec examples/demo

.PHONY: balancectl
balancectl: ## Build the command that shows what balance does and takes members out
	@mkdir -p $(CACHE)
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(CACHE)/balancectl ./cmd/balancectl

.PHONY: test
test: ## Run every test; installs the Debian packages that some need
	@test/all test-packages test-go test-coredns test-tools test-soak test-release test-kubernetes

.PHONY: test-fast
test-fast: ## Run most tests in three minutes: no race detector, no packages, no root
	go vet -pgo=off ./...
	go test -pgo=off -short ./...

.PHONY: test-packages
test-packages:
	test/install test
	test/unpack unpacked $(CACHE)/debian

.PHONY: test-go
test-go: $(GOTESTSUM) ## Run the tests of this module, with the race detector
	$(GOTEST) -race -pgo=off -timeout 40m
	go test -pgo=off -run 'TestChurn|TestSteady' ./internal/fleet

.PHONY: test-coredns
test-coredns: ## Run CoreDNS' own tests with a balance stanza in every server block (Linux; root or user namespaces)
	test/coredns/run

.PHONY: test-soak
test-soak: ## Make all kinds of faults happen to a server under load, for a minute
	@mkdir -p $(CACHE)
	go build -race -pgo=off -tags $(GOTAGS) -o $(CACHE)/coredns-race ./cmd/coredns
	$(TOOL)/soak ./soak
	$(CACHE)/soak -server $(CACHE)/coredns-race -duration $(or $(DURATION),1m) -seed $(or $(SEED),1) -load $(or $(LOAD),500)

.PHONY: soak
soak: ## The same for DURATION, an hour by default (root, Linux; SEED=n for the faults of an earlier run)
	@$(MAKE) --no-print-directory test-soak DURATION=$(or $(DURATION),1h) SEED=$(or $(SEED),0)

.PHONY: soak-fleet
soak-fleet: ## Make all kinds of faults happen to a fleet of nine replicas for DURATION (Linux; root or user namespaces)
	cd tools && go test -count 1 -timeout 0 -v -run TestFaults ./fleet -replicas 9 -for $(or $(DURATION),1h)

.PHONY: test-tools
test-tools: test-packages $(GOTESTSUM) ## Run the tests of tools: measurements, soak, alerts and dashboard, the status page in a browser
	cd tools && go vet ./... && $(GOTEST) -race -timeout 30m

.PHONY: dashboard
dashboard: ## Write deploy/observability/dashboard.json
	@mkdir -p $(CACHE)
	go run -C tools ./observability/dashboard > $(CACHE)/dashboard.json
	mv $(CACHE)/dashboard.json deploy/observability/dashboard.json

.PHONY: test-release
test-release: test-packages ## Run the tests of the image and the release (as root, or with sudo)
	cd release && $(RELEASE_GO) go test -count=1 ./manual && $(RELEASE_GO) go test -timeout 40m ./...

.PHONY: image
image: ## Make the container image for amd64 and arm64, as an OCI archive in DIST
	$(RELEASE) image

.PHONY: release
release: ## Make all of a release in DIST: image, archives, SBOMs, licences, notes, checksums
	rm -rf $(DIST)
	$(RELEASE) dist

.PHONY: test-kubernetes
test-kubernetes: test-packages $(GOTESTSUM) $(KUBERNETES)/kube-apiserver $(KUBERNETES)/etcd ## Check the manifests and run the tests against a Kubernetes API (Linux; root or user namespaces)
	go build -race -pgo=off -ldflags '-linkmode external -extldflags "-static -Wl,--no-warnings"' -o $(KUBERNETES)/coredns-race ./cmd/coredns
	cd test/kubernetes && $(GOTEST) -race -count 1 -timeout 20m

$(KUBERNETES)/kube-apiserver: test/kubernetes/go.mod
	test/kubernetes/build k8s.io/kubernetes/cmd/kube-apiserver $@

$(KUBERNETES)/etcd: test/kubernetes/go.mod
	test/kubernetes/build go.etcd.io/etcd/server/v3 $@

.PHONY: man
man: ## Make the manual pages in man/ from README.md and docs/balancectl.md, and the completion
	@mkdir -p $(CACHE)
	$(RELEASE_GO) go run -C release ./manual coredns-balance 7 < README.md > $(CACHE)/page
	mv $(CACHE)/page man/coredns-balance.7
	$(RELEASE_GO) go run -C release ./manual balancectl 1 < docs/balancectl.md > $(CACHE)/page
	mv $(CACHE)/page man/balancectl.1
	go run -pgo=off ./cmd/balancectl completion bash > $(CACHE)/page
	mv $(CACHE)/page release/debian/completion

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
	$(TOOL)/benchprobes -tags $(GOTAGS) ./benchprobes
	$(CACHE)/benchprobes -scenario $(or $(SCENARIO),all) | tee $(CACHE)/probes.md

.PHONY: sim-load
sim-load: ## Simulate load_weights, and draw the charts of docs/load.md
	go run -C tools ./simload -out $(CURDIR)/docs

BENCHSUITE  = $(CACHE)/benchsuite -coredns $(BINARY)

.PHONY: bench
bench: build bench-build ## Measure answers beside loadbalance and other name servers (BENCHFLAGS=-h lists flags)
	$(BENCHSUITE) -out $(CACHE)/bench $(BENCHFLAGS)

.PHONY: bench-gc
bench-gc: build bench-build ## Measure settings of the garbage collector and of stacks
	$(BENCHSUITE) -out $(CACHE)/bench-gc -compare gc $(BENCHFLAGS)

.PHONY: bench-pgo
bench-pgo: BINARY := $(CACHE)/coredns-nopgo
bench-pgo: bench-build ## Measure what the profile of "make pgo" gains
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -pgo=off -o $(BINARY) ./cmd/coredns
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -pgo=cmd/coredns/default.pgo -o $(CACHE)/coredns-pgo ./cmd/coredns
	$(BENCHSUITE) -out $(CACHE)/bench-pgo -coredns-pgo $(CACHE)/coredns-pgo -compare pgo $(BENCHFLAGS)

.PHONY: pgo
pgo: build bench-build ## Gather a CPU profile for the compiler into cmd/coredns/default.pgo
	$(BENCHSUITE) -profile cmd/coredns/default.pgo $(BENCHFLAGS)

.PHONY: bench-build
bench-build:
	test/install bench || echo 'make: what is missing is not measured, and the tables say so' >&2
	@mkdir -p $(CACHE)
	$(TOOL)/benchsuite ./bench

.PHONY: bench-detection
bench-detection: build ## Measure how long dead backends stay in the answers, beside other servers (root, Linux)
	test/install bench || echo 'make: what is missing is not measured, and the table says so' >&2
	$(TOOL)/benchdetection ./benchdetection
	$(CACHE)/benchdetection -coredns $(BINARY) -rounds $(or $(ROUNDS),7) | tee $(CACHE)/detection.md

.PHONY: bench-load
bench-load: build ## Measure load_weights with web servers of unequal power and clients behind caches (Linux; two minutes)
	$(TOOL)/benchload ./benchload
	$(CACHE)/benchload -coredns $(BINARY) $(BENCHFLAGS) | tee $(CACHE)/load.md

.PHONY: bench-fleet
bench-fleet: build ## Measure a fleet of replicas: probes, detection, traffic (Linux; root or user namespaces; BENCHFLAGS=-h lists flags)
	$(TOOL)/benchfleet ./benchfleet
	$(CACHE)/benchfleet -coredns $(BINARY) $(BENCHFLAGS) | tee $(CACHE)/fleet.md

.PHONY: bench-kubernetes-memory
bench-kubernetes-memory: test-packages $(KUBERNETES)/kube-apiserver $(KUBERNETES)/etcd ## Measure the memory of a cluster's DNS, loadbalance beside it (Linux; root or user namespaces)
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -o $(KUBERNETES)/coredns ./cmd/coredns
	cd test/kubernetes && go test -run '^$$' -bench Memory -benchtime 1x -timeout 40m .

.PHONY: check
check: fmt-check vet lint lint-workflows ## Formatting, vet and lint

.PHONY: fmt-check
fmt-check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted: $$bad (run gofmt -w)"; exit 1; }

.PHONY: vet
vet:
	go vet -pgo=off ./...
	cd release && go vet ./...
	cd tools && go vet ./...

.PHONY: lint
lint: $(LINT)
	GOFLAGS=-pgo=off $(LINT) run ./...
	cd release && $(abspath $(LINT)) run ./...
	cd tools && $(abspath $(LINT)) run ./...
	cd test/kubernetes && $(abspath $(LINT)) run ./...

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what is linked (VULNDB=file:///DIRECTORY without a network)
	.ci/vulncheck

.PHONY: lint-workflows
lint-workflows: $(ACTIONLINT)
	$(ACTIONLINT)
	@loose=$$(grep -nE 'uses:' .github/workflows/*.yml | grep -vE '@[0-9a-f]{40}  # v[0-9.]+$$' || true); \
	  test -z "$$loose" || { echo "not pinned to a commit, with the version behind it: $$loose"; exit 1; }

$(LINT):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(CACHE)/bin/golangci-lint $(LINT)

$(ACTIONLINT):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	mv $(CACHE)/bin/actionlint $(ACTIONLINT)

$(GOTESTSUM):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install gotest.tools/gotestsum@v1.13.0
	mv $(CACHE)/bin/gotestsum $(GOTESTSUM)

$(BENCHSTAT):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CURDIR)/$(CACHE)/bin go install golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(CACHE) $(DIST)
