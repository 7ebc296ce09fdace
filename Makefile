# For newcomers: `make demo` and `make test`. Each makes its own virtual environment and installs what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 3

.PHONY: help demo test check lint types dead hooks docs-check figures schemas wheel deb service-test arm64-test faults soak soak-short fuzz audit service-lock coverage mutants clean

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

dead: $(BIN)/.dev  ## what nothing uses, in the two packages
	! $(BIN)/vulture | grep -E '^(edge_agent|training/edge_train)/'

hooks: $(BIN)/.dev  ## lint and types before every commit of this clone (pre-commit)
	$(BIN)/pip install -q pre-commit
	$(BIN)/pre-commit install

docs-check: $(BIN)/.dev  ## the commands of README and docs, as they stand (PAGE=docs/mqtt.md: one page; ALSO=internet: these too)
	$(BIN)/python -m tools.docs_check $(PAGE) $(if $(ALSO),--also $(ALSO))

figures: $(BIN)/.dev  ## measure what README and docs quote and write it there (an hour); stopped, it goes on (ARGS=--dry-run, --again, --heavy; ONLY=delay,start)
	$(BIN)/python -m tools.figures $(if $(ONLY),--only $(ONLY)) $(ARGS)

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

coverage: $(BIN)/.dev  ## branches that the tests go through, by room (TESTS='tests/signal tests/alarms'; all: twice the time of make test)
	rm -rf reports/coverage && mkdir -p reports/coverage
	COVERAGE_FILE=$(CURDIR)/reports/coverage/data $(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist worksteal $(or $(TESTS),tests)
	COVERAGE_FILE=$(CURDIR)/reports/coverage/data $(BIN)/python -m coverage combine -q
	COVERAGE_FILE=$(CURDIR)/reports/coverage/data $(BIN)/python -m coverage json -q -o reports/coverage.json
	$(BIN)/python -m tools.coverage_rooms reports/coverage.json --least signal=0.9 --least alarms=0.9 --least outputs=0.9 --least sources=0.9

mutants: $(BIN)/.dev  ## do the tests notice a changed line? detectors, alarm rules, outbox, decoders (SAMPLE=0: every mutant, hours)
	$(BIN)/pip install -q --upgrade --target build/cosmic-ray cosmic-ray
	PYTHONPATH=build/cosmic-ray $(BIN)/python -m benchmarks.mutants --sample $(or $(SAMPLE),104) --out reports/mutants.json

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache edge_agent/signal/*.so
