# The commands of this project. Each sets up what it needs; nothing has to be installed by hand but make and Python 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-all faults soak check bench bench-peers format clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## A virtual environment with the project and its tools in .venv

$(READY): pyproject.toml scripts/make-venv
	@PYTHON="$(PYTHON)" sh scripts/make-venv "$(VENV)"
	@touch $@

demo: $(READY) ## Run the three demo seeds on the built-in offline provider and show the result
	@$(BIN)/python demo/run.py

test: $(READY) ## The everyday suite: under three minutes
	@$(BIN)/python -m pytest -n 4 -m "not faults"

test-all: $(READY) ## Every test
	@$(BIN)/python -m pytest -n 4

faults: $(READY) ## Kill it, refuse its disk, cut its power at every named point, and look at what is left
	@$(BIN)/python -m pytest -n 4 -m faults

soak: $(READY) ## 2,000 jobs, a provider that fails in every way, processes killed at random; SEED=N has it again
	@$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED))

check: $(READY) ## Lint, strict types, import arrows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy pop_actors
	@$(BIN)/lint-imports --no-cache

bench: $(READY) ## Speed and memory, each beside its floor measured in the same run
	@$(BIN)/python -m tests.bench

bench-peers: $(READY) ## The gateway beside LiteLLM's router and proxy, installed in .bench-peers
	@$(BIN)/python -m tests.bench.peers

format: $(READY) ## Put the sources in the one format
	@$(BIN)/ruff check --fix -q . || true
	@$(BIN)/ruff format -q .

clean: ## Remove what the other commands made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
