# Everything a person or a machine does with a clone. Each target sets up what it needs.
#   make demo         a local broker with a simulated fleet, and the console on it
#   make tools        what the tests with other people's clients need, by npm and Maven
#   make test         the tests
#   make check        format, lint, types, import rules, tests: what automation runs
#   make conformance  the tests that hold the published contract, and a table of what it promises
#   make fuzz         2,000 requests made from the API definition, on a broker with agents
#   make bench        the benchmarks; they print ratios and judge nothing
#   make screenshots  the pictures of the README, taken from the real program
#   make keys         the table of keys in the README, made from the bindings
#   make lock         new lock files after a change in pyproject.toml

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: demo tools test check format lint types imports conformance fuzz bench screenshots keys lock clean

# Two stamps, so that a demo on a fresh machine does not wait for the developers' tools.
$(VENV)/user.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dcvtui needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# As pip does for what it copies: else a machine that writes no bytecode compiles the program at each start.
	@$(BIN)/python -m compileall -q dcvtui broker_stub
	@touch $@

$(VENV)/dev.stamp: $(VENV)/user.stamp requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/user.stamp
	@$(BIN)/dcvtui demo $(DEMO)

tools: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.foreign.tools

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest

check: format lint types imports test

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp
	@$(BIN)/lint-imports

conformance: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest --conformance

fuzz: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest --examples 2000 -s tests/end_to_end/test_made_requests.py

bench: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest --bench -m bench -s tests/bench

screenshots: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.take_screenshots screenshots

keys: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.key_table

lock: $(VENV)/dev.stamp
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist
