# Two commands for newcomers: `make demo` and `make test`. Each makes its own virtual environment and installs what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 3

.PHONY: help demo test check lint types schemas wheel deb service-test arm64-test faults soak soak-short fuzz audit service-lock clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/.demo: setup.cfg setup.py requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c requirements.lock '.[demo]'
	@touch $@

$(BIN)/.dev: setup.cfg setup.py requirements.lock $(wildcard edge_agent/signal/*.c)
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

wheel: $(BIN)/.dev  ## dist/edge_biosignal_agent-*.whl
	$(BIN)/python -m build --wheel

deb:  ## dist/edge-agent_*.deb for this machine (as for: apt-get install python3-venv python3-dev gcc)
	packaging/build-deb

service-test:  ## the package and the service under a real systemd, in a container of its own (root, debootstrap, systemd-container)
	packaging/nspawn-test "$$(ls -t dist/edge-agent_*.deb | head -1)" reports/nspawn

arm64-test:  ## the package, the demo and the core of the tests on an arm64 Debian by qemu-user (root; an hour)
	packaging/arm64-test

faults: $(BIN)/.dev  ## every fault of docs/reliability.md, as often as its table says (half an hour)
	EDGE_AGENT_FAULTS=full $(BIN)/python -m pytest tests/faults -ra --timeout 3600

soak: $(BIN)/.dev  ## four hours at 50 times real time: memory, descriptors, drift, latency
	mkdir -p reports
	$(BIN)/python -m benchmarks.soak --minutes $${MINUTES:-240} --out reports/soak.json

soak-short: $(BIN)/.dev  ## the same for ten minutes
	mkdir -p reports
	$(BIN)/python -m benchmarks.soak --minutes 10 --out reports/soak-short.json

fuzz: $(BIN)/.dev  ## ten million inputs for every parser of outside bytes (hours)
	$(BIN)/python -m tests.fuzz.long_run --inputs $${INPUTS:-10000000} --jobs $(WORKERS) --out reports/fuzz.json

audit:  ## known vulnerabilities in what the service is made of; says so (exit status 3 of packaging/audit) where they cannot be looked up
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install -q pip-audit
	packaging/audit build/audit/bin/pip-audit

service-lock:  ## packaging/service.lock anew, at the versions of requirements.lock
	$(PYTHON) packaging/lock > packaging/service.lock.new && mv packaging/service.lock.new packaging/service.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache edge_agent/signal/*.so
