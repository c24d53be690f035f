# What a contributor or a CI runs is a target here. `make help` lists them.

GO      ?= go
BIN     := bin/shadowtap
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# The version comes from git describe above. Go's own stamping would add
# nothing, and it fails in a checkout that belongs to somebody else.
#
# Everything is compiled as what is released: what vet, the tests, cross and
# the image need of a package is then compiled once, for any checkout.
export GOFLAGS := $(GOFLAGS) -buildvcs=false -trimpath
export CGO_ENABLED := 0

FUZZTIME ?= 30s
FUZZPKGS ?= ./...
ARCHES   ?= amd64 arm64

.DEFAULT_GOAL := build
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build bin/shadowtap, static (the default)
	$(GO) build -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/shadowtap

.PHONY: demo
demo: build ## mirror real traffic in network namespaces of its own (root)
	@scripts/as-root.sh $(BIN) demo

.PHONY: test
test: vet test-unit test-fuzz test-e2e ## everything: vet, unit, BPF, fuzz, end to end (root, to skip nothing)

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: test-unit
test-unit: ## test the packages and the BPF program, with the race detector
	scripts/test.sh $$($(GO) list ./... | grep -v /shadowtap/test/)

.PHONY: test-fuzz
test-fuzz: ## run every fuzz target for a few seconds
	scripts/fuzz.sh 3s

# In test/torture the agent runs inside the test, too. Elsewhere it is a process
# of its own, of which a race detector in the test sees nothing.
.PHONY: test-e2e
test-e2e: ## test the whole program in network namespaces (root)
	scripts/test-tools.sh
	RACE=no scripts/test.sh -p 1 $$($(GO) list ./test/... | grep -v -e /test/bench -e /test/torture)
	scripts/test.sh ./test/torture
	@echo "left out: test/bench, which measures (make bench)"

.PHONY: referee
referee: ## hold the rules against Istio's generator (a module of its own, large)
	cd test/referee && $(GO) test -count=1 ./...

.PHONY: fuzz
fuzz: ## run every fuzz target in FUZZPKGS (./...) for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME) $(FUZZPKGS)

.PHONY: bench
bench: ## measure against the alternatives and print the ratios (root)
	$(GO) test -count=1 -timeout 30m -v -bench . ./test/bench
	SHADOWTAP_SCALE=1 $(GO) test -count=1 -v -run TestScale ./pkg/kube

TORTURE_REQUESTS ?= 100000

.PHONY: torture
torture: ## print what became of every request under a hostile network, and fail on anything unexplained (root, for all of it)
	TORTURE_REQUESTS=$(TORTURE_REQUESTS) $(GO) test -count=1 -timeout 2h -v ./test/torture

.PHONY: generate
generate: ## compile bpf/ into pkg/capture (clang; CONTRIBUTING.md says which)
	$(GO) generate ./pkg/capture

.PHONY: check-generated
check-generated: ## is the committed object what bpf/ compiles to?
	scripts/check-generated.sh

.PHONY: format
format: ## gofmt, and clang-format 14 for bpf/
	gofmt -w .
	find bpf -name '*.[ch]' -exec clang-format -i {} +

.PHONY: lint
lint: ## golangci-lint, clang-format and shellcheck, as far as installed
	scripts/lint.sh

IMAGE     := bin/shadowtap-image.tar
PLATFORMS ?= linux/amd64,linux/arm64

.PHONY: image
image: ## write the container image for PLATFORMS as an OCI archive, bin/shadowtap-image.tar, without a container engine
	@mkdir -p bin
	cd deploy/image && SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
		$(GO) run . -version $(VERSION) -platforms $(PLATFORMS) -o $(abspath $(IMAGE))

.PHONY: test-deploy
test-deploy: ## test the image, the chart and the plain manifests (modules of their own)
	cd deploy/image && $(GO) vet ./... && $(GO) test -count=1 -timeout 30m ./...
	cd deploy/helm/test && $(GO) vet ./... && $(GO) test -count=1 -timeout 30m ./...

.PHONY: manifests
manifests: ## render deploy/manifests from the chart
	cd deploy/helm/test && $(GO) run . > ../../manifests/shadowtap.yaml.new
	mv deploy/manifests/shadowtap.yaml.new deploy/manifests/shadowtap.yaml

.PHONY: test-kube
test-kube: ## test on a Kubernetes of two nodes that it makes and removes again (root; the first time takes minutes more)
	@scripts/as-root.sh env "PATH=$$PATH" "KEEP=$(KEEP)" test/kube/run.sh

.PHONY: cross
cross: ## compile everything, tests too, for ARCHES (amd64 arm64)
	@set -e; for arch in $(ARCHES); do echo "linux/$$arch"; \
		GOOS=linux GOARCH=$$arch $(GO) build ./...; \
		GOOS=linux GOARCH=$$arch $(GO) vet ./...; done

.PHONY: clean
clean: ## remove what make built
	rm -rf bin
