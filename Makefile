# make run: the whole pipeline on the tracked sample.  make test: everything a change must pass.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Prefect keeps its state inside .venv, so that `make run` neither reads nor changes a Prefect you already use.
FLOW_ENV := PREFECT_HOME=$(CURDIR)/.venv/prefect PREFECT_PROFILES_PATH=$(CURDIR)/.venv/prefect/profiles.toml
# Two workers of one thread each: most tests wait for a process, or are too small to share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: run test test-all check bench docs clean

run: .venv/.run
	$(FLOW_ENV) $(BIN)/python -m flows.daily data/sample/config.toml --store data

test: .venv/.dev check
	$(PYTEST)

test-all: .venv/.dev check
	RECSYS_CL_TEST_ALL=1 $(PYTEST)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/.dev
	$(BIN)/python -m benchmarks.quality

docs: .venv/.run
	$(BIN)/python -m recsys_cl.config_docs > docs/configuration.md

.venv/.venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.run: .venv/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[flows]'
	touch $@

.venv/.dev: .venv/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/.run $@

clean:
	rm -rf .venv build dist *.egg-info data/raw data/runs data/releases data/exports
