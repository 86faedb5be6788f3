# What people and CI both call. Everything lives in .venv; delete that folder to start afresh.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo dev quick test slow lint types unit docs lock dist clean

help:
	@echo "make demo   set up .venv and train on the built-in phantom, tracked"
	@echo "make dev    set up .venv and git's hooks, which run lint and types before each commit"
	@echo "make quick  set up .venv and run lint and the tests of less than half a second, which neither train nor start processes"
	@echo "make test   set up .venv and run lint, types and all tests but the long forms"
	@echo "make slow   run the long forms, and the tests of the benchmarks"
	@echo "make docs   write the tables of keys in docs/configuration.md from brainseg/config.py"
	@echo "make lock   resolve the versions in requirements*.lock anew"
	@echo "make dist   build the source archive and the wheel in dist/"
	@echo "make clean  delete .venv and caches; runs in mlruns/ are kept"

demo: $(VENV)/.run
	$(BIN)/python -m brainseg.train

dev: $(VENV)/.dev
	$(BIN)/pre-commit install

PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

quick: lint
	$(PYTEST) -m "not heavy and not slow and not benchmarks"

test: lint types unit

slow: $(VENV)/.dev
	$(PYTEST) -m "slow or benchmarks"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(PYTEST)

docs: $(VENV)/.dev
	$(BIN)/python docs/key_tables.py

# -e needs hatchling and editables, which the development lock holds; running needs only the folder.
$(VENV)/.run: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "brainseg needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Versions for every platform and Python that pyproject.toml allows; no index addresses in the files.
LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" pyproject.toml
lock: $(VENV)/.dev
	$(LOCK) -o requirements.lock
	$(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock

DIST := dist
dist: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --outdir $(DIST)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
