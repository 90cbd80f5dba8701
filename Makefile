# Lightcone's commands. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A Go unpacked where go.dev says is found even when PATH does not name it.
export PATH := $(PATH):/usr/local/go/bin

build_packages := build-essential pkg-config libvips-dev
run_packages   := mate-backgrounds curl
test_packages  := $(run_packages) openssh-server openssh-client sudo iproute2 util-linux haproxy redis-server redis-sentinel
bench_packages := $(run_packages) haproxy libjpeg-turbo-progs
cluster_packages := $(run_packages) iproute2 util-linux haproxy redis-server redis-sentinel libvips42 ca-certificates

sample := /usr/share/backgrounds/mate/nature/Garden.jpg

# Git that cannot be asked (another user's clone, a tarball) must not stop a build.
vcs := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
go_build := go build -trimpath -buildvcs=$(vcs)

pack := tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C bin

staticcheck := go tool -modfile=internal/tools/go.mod staticcheck

.PHONY: help build run test check release cluster drill drill-queue drill-usage cluster-down agents bench clean install-build install-run install-test install-cluster install-bench

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: install-build ## Build the executables into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(go_build) -o bin/lightcone ./cmd/lightcone
	CGO_ENABLED=1 $(go_build) -o bin/lightcone-resize ./cmd/lightcone-resize
	CGO_ENABLED=1 $(go_build) -o bin/lightcone-billing ./cmd/lightcone-billing

run: install-run build ## Install what is missing, build, and run everything on this machine (Ctrl-C stops it)
	bin/lightcone dev --data lightcone-data --sample $(sample) $(ARGS)

test: install-test release agents ## Install what is missing, build, and run every test (as root); a skipped test is a failure
	go test -json -race -count 1 -timeout 30m $$(go list ./... | grep -v -e '/cluster$$' -e '/queue/drill$$') | go run ./internal/house/testreport
	go test -json -race -count 1 -timeout 30m ./queue/drill | go run ./internal/house/testreport
	cd terraform/standin && go vet ./...
	go test -json -count 1 -timeout 45m ./cluster | go run ./internal/house/testreport

check: install-build ## Formatting, vet, staticcheck, house rules, module files
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(staticcheck) ./...
	go test ./internal/house/...
	$$(internal/tools/agent nomad) fmt -check -recursive jobs
	terraform fmt -check -recursive -diff terraform
	go mod tidy -diff
	go mod verify

release: build ## Pack the executables for Nomad to fetch: bin/lightcone.tar.gz, and its SHA-256
	$(pack) -cf - lightcone lightcone-resize lightcone-billing | gzip -n1 >bin/lightcone.tar.gz
	sha256sum bin/lightcone.tar.gz

cluster: install-cluster release agents ## Three racks, Consul, Nomad and all of Lightcone on this machine (as root)
	@go build -o bin/cluster ./cluster
	@bin/cluster up

drill: install-cluster ## Let things go wrong in the cluster under load; ARGS='NAME…' chooses
	@go build -o bin/cluster ./cluster
	@bin/cluster drill $(ARGS)

drill-queue: install-test ## Let things go wrong with three nodes of the queue alone, and judge what its clients saw (as root)
	@go build -o bin/queuedrill ./queue/drill
	@bin/queuedrill $(ARGS)

drill-usage: build ## Kill gateways that record calls for a store that fails half its requests, and judge what is stored and billed
	@go build -o bin/usagedrill ./usage/drill
	@bin/usagedrill $(ARGS)

cluster-down: ## Stop and remove what `make cluster` made
	@go build -o bin/cluster ./cluster
	@bin/cluster down

bench: install-bench build ## Measure on real photographs; ARGS='…' goes to the benchmark
	CGO_ENABLED=1 $(go_build) -o bin/kernelbench ./functions/resize/kernelbench
	go run ./bench $(ARGS)

clean: ## Remove what the build made (not lightcone-data, which is yours)
	rm -rf bin bench.json

# Not listed. Consul, Nomad and an S3 server are built once, if they are not installed.
agents: install-build
	@mkdir -p bin
	@ln -sf "$$(internal/tools/agent consul)" bin/consul
	@ln -sf "$$(internal/tools/agent nomad)" bin/nomad
	@ln -sf "$$(internal/tools/agent versitygw)" bin/versitygw
	@[ bin/versitygw.tar.gz -nt "$$(readlink bin/versitygw)" ] || $(pack) -hcf - versitygw | gzip -n1 >bin/versitygw.tar.gz

# Not listed: each command installs what it needs, and only what is missing.
install-build:
	@internal/house/install $(build_packages)
	@internal/house/require-go

install-run: install-build
	@internal/house/install $(run_packages)

install-test: install-build
	@internal/house/install $(test_packages)

install-cluster: install-build
	@internal/house/install $(cluster_packages)

install-bench: install-build
	@internal/house/install $(bench_packages)
