# make demo: install, compute the demo speaker, say where the report is; METHOD=gaussiantalker: by that method alone.
# make test: install, check, test.
.DEFAULT_GOAL := help
.PHONY: help demo test install clean
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH :=
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

demo: $(VENV)/.installed-demo  ## install, compute the demo speaker, say where the report and the videos are
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	gausstalk run $(if $(METHOD),demo --method $(METHOD) --preset demo)  # the graph of dvc.yaml, two stages at a time where two cores are
	$(if $(METHOD),,dvc repro  # finds nothing left to do, or does it)
	@gausstalk report

test: $(VENV)/.installed-dev  ## install, check style, types and layers, run all tests
	ruff check .
	ruff format --check .
	pyright
	lint-imports
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # whole files, so that what they share is made once

install: $(VENV)/.installed-demo  ## install into .venv

clean:  ## remove what make has installed; data/ and .work/ stay
	rm -rf $(VENV)

# A stamp stands for "installed with these files", so that a second call costs nothing.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): about 3 GB, some minutes"
	@$(BIN)/python -m pip install -qq --editable '.[$(EXTRAS_$*)]' --constraint constraints.txt
	@touch $@

EXTRAS_demo := demo
EXTRAS_dev := demo,speech,convert,dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found"; \
		echo "fix:   install one, or: make PYTHON=/path/to/python3.11"; exit 5; } >&2
	$(PYTHON) -m venv $(VENV)
	@# Older pips resolve this many packages slowly.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
