# make quickstart   the main job on generated faces, from nothing to a board (no dataset, no licence)
# make test         every test, in two processes (WORKERS=1: one after the other)
# make check        lint, types, tests, quickstart, committed boards: what CI runs

PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install quickstart test test-fast lint types boards check clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

install: $(STAMP)

# The environment is made once, from the lock file; later runs need no network.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"facebench needs Python 3.11 to 3.13, this is {sys.version.split()[0]}; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/facebench quickstart

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS)

test-fast: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

boards: $(STAMP)
	$(BIN)/facebench leaderboard check

check: lint types test quickstart boards

clean:
	rm -rf quickstart .pytest_cache .mypy_cache .ruff_cache .hypothesis
