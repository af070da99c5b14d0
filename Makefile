# Every target sets up what it needs: the machine brings python3 >= 3.11 and make, the rest comes from here.
#   make demo    a sample application is backed up, wrecked, restored and compared
#   make test    checks and tests on real PostgreSQL 15, 16 and 18, the long matrices as a seeded sample
#   make soak    the same with 14 and 17, and the long matrices whole
#   make bench   times and memory, side by side with plain tools; options in BENCH_ARGS
#   make check   style, types and layers
#   make lock    renew requirements-dev.txt and deploy/requirements.txt with today's versions

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPORTS ?= 2000
PYTEST_ARGS ?=
BENCH_ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup tools demo test soak bench check lock clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.installed
	@:

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or later, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Resurgam needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Name a later one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/tools venv $(PYTHON)
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements-dev.txt pyproject.toml $(VENV)/.made
	@echo "Installing the locked requirements into $(VENV)"
	@$(PIP) install --quiet --requirement requirements-dev.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

tools:
	@.ci/tools test

demo: setup
	@$(BIN)/resurgam demo --reports $(REPORTS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: tools check
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

soak: tools check
	@RESURGAM_SOAK=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: setup
	@$(BIN)/python -m bench $(BENCH_ARGS)

lock: $(VENV)/.made
	@rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --upgrade --requirement requirements-dev.in --editable '.[demo,notify,s3]'
	@{ sed -n '/^#/p' requirements-dev.in; \
	   .cache/lock/bin/python -m pip freeze --exclude-editable --exclude resurgam; } > requirements-dev.txt
	@rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --constraint requirements-dev.txt '.[notify,s3]'
	@{ echo "# What runs in the image: requirements-dev.txt without what only development needs; written by \`make lock\`."; \
	   .cache/lock/bin/python -m pip freeze --exclude resurgam; } > deploy/requirements.txt
	@rm -rf .cache/lock

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
