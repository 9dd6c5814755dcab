# `make help` lists the targets. Every target sets .venv up first, which takes no time once it is done.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types soak bench clean
SHELL := /bin/bash

BIN := .venv/bin

# Quiet, and no telemetry: nothing leaves this machine.
export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## this list
	@echo "distillation-factory: search with a teacher, keep what verifiers accept, train a student on it."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Needs Linux x86_64, CPython 3.11 to 3.14 (PYTHON=... chooses one), 6 GB of disk; no GPU."
	@echo "The command line afterwards: $(BIN)/factory --help"

setup: ## makes .venv with the exact versions in requirements.lock (minutes; once)
	@.ci/setup.sh

demo: setup ## searches Countdown problems with the bundled teacher on this machine, into runs/demo
	@$(BIN)/factory run pipelines/demo.toml --out runs/demo
	@echo 'In this shell first: export PATH="$$PWD/$(BIN):$$PATH"'

test: lint types ## lint, format, types, then every test but the soak tests
	$(BIN)/python -m pytest tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

soak: setup ## the long forms: soak tests, and the property tests with random seeds and many more examples
	$(BIN)/python -m pytest -m soak --timeout=7200 tests
	$(BIN)/python -m pytest --hypothesis-profile=soak --timeout=3600 tests/property

bench: setup ## every benchmark in tests/bench, one after the other (long; wants the machine to itself)
	@for file in tests/bench/[a-z]*.py; do \
	    name=$$(basename $$file .py); echo "== $$name" >&2; $(BIN)/python -m tests.bench.$$name || exit 1; done

clean: ## removes caches, build leftovers and the demo's run; keeps .venv and all other runs
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis runs/demo
	find factory pipelines sandboxes tests -name __pycache__ -type d -prune -exec rm -rf {} +
