# `make` is the door: every command works from a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AZURITE := .cache/azurite
UV := $(shell command -v uv 2>/dev/null)

ifeq ($(UV),)
CREATE := $(PYTHON) -m venv $(VENV)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
else
CREATE := $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
endif

.DEFAULT_GOAL := help
.PHONY: help setup test unit integration nightly chaos azure coverage demo lint format types check bench lock clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

setup: $(STAMP) ## create .venv with every dependency pinned by hash

# The lock holds the build tools too. They go in first, so that what is built
# from source (one data package, and the project itself) fetches nothing else.
$(STAMP): requirements.lock pyproject.toml
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "streamflow needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(CREATE)
	@awk '/^[a-z]/ { on = /^setuptools==/ } on' requirements.lock > $(VENV)/build.lock
	@$(INSTALL) --require-hashes --no-deps -r $(VENV)/build.lock
	@$(INSTALL) --require-hashes --no-build-isolation -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

test: setup ## unit tests, then the tests against a real Kafka
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory integration

# The cores belong to the test processes: Arrow's own threads only get in their way.
unit: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile $(wildcard tests/unit tests/topologies tests/laws tests/oracle tests/stores)

integration: setup
	$(BIN)/pytest --numprocesses 3 --dist loadfile tests/integration

nightly: setup ## the laws on 10,000 examples each: eight hours of a core; PART=1/12 for a part
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=nightly $(BIN)/pytest --numprocesses auto --timeout 0 $(if $(PART),--part $(PART)) tests/laws tests/unit/test_sink_laws.py

chaos: setup ## workers killed, frozen and rebalanced for MINUTES=10; NODES=3 brokers; STANDBYS=1; SEED=n
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(NODES),--nodes $(NODES)) $(if $(STANDBYS),--standbys $(STANDBYS)) $(if $(SEED),--seed $(SEED))

azure: setup ## what holds for tables in S3, in Azure's emulator; needs npm
	@test -x $(AZURITE)/node_modules/.bin/azurite-blob \
		|| npm install --prefix $(AZURITE) --no-audit --no-fund --ignore-scripts azurite@3.35.0
	$(BIN)/pytest tests/azure

coverage: setup ## what tests without Kafka reach: all of the gates, 95 % of the core
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses auto --dist loadfile tests/unit tests/topologies tests/laws
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under 100 --include 'streamflow/core/gate.py,streamflow/rules.py,streamflow/sql.py'
	$(BIN)/coverage report --fail-under 95 --include 'streamflow/core/*'

demo: setup ## flights through a real Kafka into Parquet
	@$(BIN)/streamflow demo

lint: setup ## rules and layout of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## write the layout that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## pyright, strict
	$(BIN)/pyright

check: ## exactly what CI runs
	@.ci/run

bench: setup ## throughput next to plain Faust and bare aiokafka; what exactly-once costs; shares of the time; what storage plans save
	$(BIN)/python bench/run.py
	$(BIN)/python bench/operators.py
	$(BIN)/python bench/changes.py
	$(BIN)/python bench/tasks.py
	$(BIN)/python bench/restore.py
	$(BIN)/python bench/storage.py

lock: ## resolve the dependencies anew (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv" >&2; exit 1; }
	uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
		--all-extras --group dev --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## remove everything that make made
	rm -rf $(VENV) .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
