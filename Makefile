# forge-ml. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where the bootstrap puts a Go of its own, if it had to.
export PATH := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/forge-ml/go/bin:$(PATH)
# go-nvml's header marks 29 functions that it must bind as deprecated: noise on every build.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
STAMP    = -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# urfave_cli_no_docs leaves a Markdown parser out, which cost every start of forgectl a millisecond.
# go-nvml leaves symbols for the driver to supply at run time. Toolchains that harden by
# default link with "-z now", and forged would exit 127 before main: ask for lazy binding.
LAZY     = -linkmode external -extldflags "-Wl,-z,lazy"

.PHONY: help bootstrap build build-test test test-fast test-long lint docs accept bench mutate test-gpu gpu-check demo demo-front demo-slurm demo-queue demo-train demo-rlhf demo-data demo-gates demo-gpu run-forged slurm-up slurm-down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bootstrap: ## Check the tools, install the ones that are missing
	@contrib/bootstrap/bootstrap

build: bootstrap ## Build bin/forged (with cgo) and bin/forgectl (one static file)
	@mkdir -p bin
	@CGO_ENABLED=1 go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w $(STAMP) $(LAZY)' -o bin/forged ./cmd/forged
	@CGO_ENABLED=0 go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w $(STAMP)' -o bin/forgectl ./cmd/forgectl

# forged-crash kills itself at the crash point that a test names; proberank is the tests' rank.
build-test: build ## Build what the end-to-end tests start as well: bin/forged-crash, bin/proberank
	@CGO_ENABLED=1 go build -trimpath -tags crashpoints,urfave_cli_no_docs -ldflags '-s -w $(STAMP) $(LAZY)' -o bin/forged-crash ./cmd/forged
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/proberank ./internal/forgedtest/proberank

test: bootstrap ## Run everything: lint, Go with -race, Python, end to end; what CI runs
	@go run ./contrib/testreport full

test-fast: bootstrap ## Run what takes under two minutes
	@go run ./contrib/testreport fast

test-long: bootstrap ## Run everything, and what is marked long
	@go run ./contrib/testreport long

test-gpu: build ## Check against a real NVIDIA driver and GPU, and train on it (FORGE_PYTHON with bitsandbytes); no part of make test
	@export FORGE_BIN=$(CURDIR)/bin FORGE_PYTHON=$${FORGE_PYTHON:-$$(contrib/python-env/install)} FORGE_GPU_COUNTED=$$(mktemp -d); \
	$(MAKE) --no-print-directory gpu-check; checked=$$?; \
	(cd recipes/python && "$$FORGE_PYTHON" -m pytest -m gpu); trained=$$?; \
	go test -tags=e2e,gpu -count=1 -v -timeout 15m -run RealGPU ./internal/e2e/; held=$$?; \
	rm -rf "$$FORGE_GPU_COUNTED"; exit $$((checked | trained | held))

lint: bootstrap ## Run gofmt, go vet, staticcheck and shellcheck
	@go run ./contrib/testreport lint

docs: ## Write the pages that are made from the code: API, commands, exit codes, man pages, completion
	@go run ./contrib/apidoc
	@UPDATE=1 go test -count=1 -run Pages ./cmd/forgectl ./recipes >/dev/null

gpu-check: build ## Hold inventory, readings, pinning and errors against a real NVIDIA driver and GPU (minutes, nothing to download); part of make test-gpu
	@cc -O1 -Wall -o bin/hold contrib/gpu-check/cuda/hold.c -ldl
	@go run ./contrib/gpu-check -bin bin

# The checks and the traces lie beside the repository and are no part of it.
SHARED ?= ../shared
accept: build ## Replay public traces and hold every figure of the queue against its target; SHARED=DIR has accept/ and traces/
	@python3 $(SHARED)/accept/scheduler_quality.py $(CURDIR)/bin/forgectl $(SHARED)/traces

bench: build-test ## Measure; ONLY=name,name for some figures
	@go run ./contrib/bench $(if $(ONLY),-only $(ONLY))

mutate: ## Break the scheduler, or PKG=./internal/gate, in small ways and list what its tests do not notice (minutes); MUTANTS=60 SEED=1
	@go run ./contrib/mutate -n $(or $(MUTANTS),60) -seed $(or $(SEED),1) $(or $(PKG),./scheduler)

demo-front: ## Live through a site's first day: tenants, keys, preemption, backup and restore
	@contrib/demo/demo --story front

demo: ## Train a tiny model, break it half-way and watch it finish
	@contrib/demo/demo

demo-slurm: ## Train on a real Slurm cluster while a node of the gang and the controller die
	@contrib/demo/demo --story slurm

demo-queue: ## See short runs overtake a long gang, a reservation kept, a what-if come true
	@contrib/demo/demo --story queue

demo-train: ## See DPO killed, preempted and cut by its limit end with the bytes of an undisturbed run; a torchrun script on two nodes
	@contrib/demo/demo --story train

demo-rlhf: ## SFT, reward model, PPO and eval in one file; PPO is killed twice and ends with the bytes of an undisturbed run
	@contrib/demo/demo --story rlhf

demo-data: ## A messy folder registered, its bad rows and personal data shown, redacted, trained on; lineage, a changed file, overlap, impact
	@contrib/demo/demo --story data

demo-gates: ## A model to production through its gates, a worse one refused with the samples that flipped, forced, found by a schedule, rolled back; the history verified
	@contrib/demo/demo --story gates

demo-gpu: ## Eight GPUs of a fake driver: shown live, an XID of the program's own, one of the GPU, one of the node; what is held back, and what comes back
	@contrib/demo/demo --story gpu

run-forged: build ## Serve from a state directory for trying things, .cache/forged
	@test -d .cache/forged || bin/forged init --state-dir .cache/forged
	@exec bin/forged serve --state-dir .cache/forged

slurm-up: bootstrap ## Start a real Slurm cluster here: NODES=4 GPUS=4 ACCOUNTING=1 NETNS=1 VERSION=24.11
	@contrib/slurm-cluster/up $(CURDIR)/.cache/slurm

slurm-down: ## End the cluster of slurm-up
	@contrib/slurm-cluster/down $(CURDIR)/.cache/slurm

clean: ## Remove what make built here (the cache in ~/.cache/forge-ml stays)
	@test ! -d .cache/slurm || contrib/slurm-cluster/down $(CURDIR)/.cache/slurm
	rm -rf bin .cache
