# Every command of the project. `make help` lists them.
SHELL := /bin/bash
# Debian's own interpreter where there is one: Triton's python stub looks for its library.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3.12) 3.11)
BIN := .venv/bin
UV := build/uv/bin/uv
export UV_LINK_MODE ?= hardlink
# A file stays on one worker, which has an API server of its own and builds what the file's tests share once.
WORKERS := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: help setup check lint types contracts words unit generate generate-check docs lock images prepare binaries \
        operator-image test faults integration together e2e e2e-all e2e-images soak demo demo-cluster bench cluster-up \
        cluster-down clean

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: build/setup.stamp ## Make the virtual environment .venv from the lock file

build/setup.stamp: requirements.lock pyproject.toml
	@mkdir -p build
	@test -x $(UV) || { python3 -m venv build/uv && build/uv/bin/pip install -q --disable-pip-version-check uv; } \
	  || { echo "make setup needs a python3 with venv and pip: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(UV) venv --quiet --no-python-downloads --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable . uv pip
	@touch $@

lock: setup ## Resolve the dependencies again into requirements.lock
	$(UV) lock --quiet
	$(UV) export --quiet --frozen --all-extras --all-groups --no-emit-project --no-header -o requirements.lock
	@rm uv.lock

lint: setup ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy
	$(BIN)/mypy

contracts: setup ## import-linter: who may import whom
	$(BIN)/lint-imports

words: setup ## codespell: words that only this project would use, by dev/words.txt
	$(BIN)/codespell operator plugins crds helm examples docs tests README.md CONTRIBUTING.md
	$(BIN)/codespell --dictionary dev/docstrings.txt operator plugins helm/slipway/scripts

unit: setup ## Unit and property tests
	$(BIN)/python -m pytest $(WORKERS) tests/unit tests/property

generate: setup ## Write crds/, the chart's copies and the reference tables from the code
	$(BIN)/python dev/generate.py

generate-check: setup ## Fail where a generated file is stale
	$(BIN)/python dev/generate.py --check

docs: setup ## Build the site into build/site; fail on a broken link or anchor
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file dev/site/mkdocs.yml

check: lint types contracts words generate-check docs unit ## What takes under a minute: lint, types, contracts, words, generated files, unit tests

images: ## The operator's image without a registry, by buildah (root, Debian): build/images
	dev/images/build operator

# What later targets need, side by side: Go needs the processors, images the network.
prepare: binaries $(if $(KUBECONFIG),,operator-image)

binaries:
	dev/cluster/build

operator-image:
	dev/images/build --no-archive operator

cluster-up: setup ## Start the development cluster (root; or give KUBECONFIG and skip this)
	dev/cluster/up

cluster-down: ## Stop the development cluster
	dev/cluster/down

integration: setup ## Contract and integration tests: real kube-apiserver, torchrun, Triton
	dev/cluster/build
	PATH="$(CURDIR)/$(BIN):$$PATH" dev/cluster/install-env
	$(BIN)/python -m pytest tests/contract tests/integration

faults: setup ## Scenarios under crashes, wrong answers, lagging watches and clock steps; spec transitions (SEED=...)
	dev/cluster/build
	$(BIN)/python -m pytest tests/faults tests/transitions

e2e: setup ## End-to-end tests of every change on a real cluster: the chart, the operator's image, the example, isolation
	BUILT_IMAGES=operator dev/with-cluster $(BIN)/python -m pytest -m 'not gpu and not images and not release' tests/e2e

e2e-all: setup ## All end-to-end tests but those of e2e-images: before a release, and part of make soak
	BUILT_IMAGES=operator dev/with-cluster $(BIN)/python -m pytest tests/e2e

# torch and its CUDA libraries are 6 GB, several times on the disk: not part of make test.
e2e-images: setup ## The example, and a plugin in its own image, on a real cluster from built images alone (25 GB of disk)
	BUILT_IMAGES="operator runtime serving plugin" dev/with-cluster $(BIN)/python -m pytest -m 'not gpu' \
	  tests/e2e/test_operator_image.py tests/e2e/test_chain.py tests/e2e/test_plugin_image.py

# A new seed each time, unless you give one.
SEED := $(or $(SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' '))
MINUTES ?= 10

soak: setup ## What make test samples, whole: every write, spec transitions, all of e2e, SIGKILL (MINUTES=10 SEED=...)
	dev/cluster/build
	@echo "repeat it by: make soak SEED=$(SEED) MINUTES=$(MINUTES)"
	SEED=$(SEED) MINUTES=$(MINUTES) SAMPLE_EVERY=1 TAKEOVER_JOBS=5000 TRANSITION_EXAMPLES=30 $(BIN)/python -m pytest -rP \
	  --hypothesis-seed=$(SEED) --timeout=7200 \
	  tests/property tests/faults tests/transitions tests/integration/test_agreement.py \
	  tests/integration/test_leadership.py tests/integration/test_local_run.py tests/soak
	SEED=$(SEED) $(MAKE) e2e-all

together: setup
	dev/cluster/build
	PATH="$(CURDIR)/$(BIN):$$PATH" dev/cluster/install-env
	$(BIN)/python -m pytest $(WORKERS) -m 'not gpu and not images and not release' \
	  tests/faults tests/transitions tests/contract tests/integration

test: check ## Everything, from a cold start: check, then faults and integration by several workers, then e2e
	$(MAKE) --jobs=2 --output-sync=target prepare
	$(MAKE) together
	$(MAKE) e2e

demo: setup ## Train, compress, evaluate and serve the digits on this machine, without a cluster
	PYTHONPATH=dev $(BIN)/python -m demo.local

demo-cluster: setup ## Train, compress, evaluate and serve the digits on a real cluster (SEEDS=5 for five seeds)
	PYTHONPATH=dev dev/with-cluster $(BIN)/python -m demo

bench: setup ## Benchmarks on a real kube-apiserver (QUICK=1 for five minutes; ONLY=throughput,latency,...)
	dev/cluster/build
	PYTHONPATH=tests:dev/cluster $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

clean: ## Remove what builds and tests left, the cluster's state included
	dev/cluster/down
	rm -rf build dist .venv
