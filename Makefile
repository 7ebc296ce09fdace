# Two commands for newcomers: `make demo` and `make test`. Each makes its own virtual environment and installs what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: help demo test check lint types schemas wheel clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/.demo: setup.cfg setup.py requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c requirements.lock '.[demo]'
	@touch $@

$(BIN)/.dev: setup.cfg setup.py requirements.lock edge_agent/signal/_kernel.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c requirements.lock -e '.[demo,files,hdf5,lsl,baselines,dev]'
	@touch $@ $(BIN)/.demo

demo: $(BIN)/.demo  ## a simulated patient, the real daemon, a broker and a subscriber, in about a minute
	$(BIN)/edge-agent demo

test: check  ## lint, types and all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -ra

check: lint types  ## lint and types (seconds)

lint: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.dev
	$(BIN)/mypy

schemas: $(BIN)/.dev  ## write docs/schema/ from edge_agent/events.py
	$(BIN)/python -m edge_agent.schemas docs/schema

wheel: $(BIN)/.dev  ## dist/edge_agent-*.whl
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache edge_agent/signal/*.so
