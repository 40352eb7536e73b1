# Everything here sets itself up: a virtual environment in .venv with the versions of constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 50
STACK_SEEDS ?= 2
NODE_SEEDS ?= 5
MEMORY_SEEDS ?= 20
FIRST ?= 1

.PHONY: help setup demo test check sim stack net bench vectors clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Make .venv and install the pinned packages

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## Three processes order, execute, store and verify the Les Miserables world
	$(BIN)/agent-world demo

test: setup ## All tests
	$(BIN)/python -m pytest

check: setup ## Format, lint, types, floors, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture

sim: setup ## Simulation: SEEDS=50 seeds from FIRST=1
	$(BIN)/python -m agent_world.testing.sim --seeds $(SEEDS) --first $(FIRST)

stack: setup ## Simulation of whole nodes: MEMORY_SEEDS=20 in memory, NODE_SEEDS=5 on libp2p, STACK_SEEDS=2 of 20 hosts, and those kept
	@$(BIN)/python -m agent_world.testing.sim_stack --kept tests/sim/stack_seeds.txt --first $(FIRST) \
	  --scenario memory --seeds $(MEMORY_SEEDS); memory=$$?; \
	$(BIN)/python -m agent_world.testing.sim_stack --kept tests/sim/stack_seeds.txt --first $(FIRST) \
	  --scenario nodes --seeds $(NODE_SEEDS); nodes=$$?; \
	$(BIN)/python -m agent_world.testing.sim_stack --kept tests/sim/stack_seeds.txt --first $(FIRST) \
	  --scenario hosts --seeds $(STACK_SEEDS); hosts=$$?; exit $$((memory | nodes | hosts))

net: setup ## Tests over real sockets only
	$(BIN)/python -m pytest tests/net

bench: setup ## Benchmark rows side by side with their peers
	$(BIN)/python -m bench

vectors: setup ## Write protocols/*/vectors again
	$(BIN)/python -m agent_world.testing.vectors

clean: ## Remove what setup and tests made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
