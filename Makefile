# Two commands do everything from nothing: `make search` and `make test`.
# Each sets itself up in .venv; PYTHON names the interpreter it is made with.

PYTHON ?= python3
BIN := .venv/bin
SEARCH_ARGS ?=
JOBS ?= 2

.PHONY: help search test test-fast lint docs clean

help:
	@echo "make search   search a network for the digits images, draw it, export it (under 6 minutes)"
	@echo "              SEARCH_ARGS='--trials 20' passes options; see nas-plugins search --help"
	@echo "make test     lint, type check and all tests (about 20 minutes on 2 cores)"
	@echo "make test-fast  those that start no other processes and take seconds"
	@echo "make docs     build the documentation into site/"
	@echo "make clean    remove .venv and what was built"

# One stamp per set of extras, so that `make search` does not wait for what only tests need.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.user: pyproject.toml | .venv/bin/python
	@echo "installing nas-plugins[optuna] into .venv (PyTorch is large: a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --editable '.[optuna]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "installing nas-plugins[dev] into .venv (PyTorch is large: a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/.user

search: .venv/.user
	$(BIN)/python -m nas_plugins search $(SEARCH_ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread each, so that as many processes as cores do not wait for each other. Tests that start
# a host's own processes come afterwards, one at a time.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra
PARALLEL := -n $(JOBS) --dist worksteal

test: lint
	$(PYTEST) $(PARALLEL) --durations=15 -m "not host"
	$(PYTEST) --durations=15 -m host

test-fast: .venv/.dev
	$(PYTEST) $(PARALLEL) -m "not slow and not host"

docs: .venv/.dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist site *.egg-info
