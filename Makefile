# Needs nothing but Python 3.11 and make: `make run` serves a real model, `make test` checks the
# project. Both set everything up first; a second call installs nothing (docs/decisions/0101).
#
# Settings: PYTHON, PIP_INDEX_URL or UV_DEFAULT_INDEX (package index mirror), PIP_FIND_LINKS (a
# folder or page that holds the CPU build of torch), ARGS (for `make run`), PYTEST_ARGS.

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& { command -v "$$p"; break; }; done)
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/cpu.lock

# Stamps are named by what they stand for, so a changed lock, Python or folder makes them anew.
digest = $(shell cat $(1) 2>/dev/null | cksum | tr ' ' '-')
ENV_ID := $(shell { echo "$(CURDIR)"; "$(PYTHON)" -VV; } 2>&1 | cksum | tr ' ' '-')
HAS_ENV := $(VENV)/made-$(ENV_ID)
HAS_PACKAGES := $(VENV)/packages-$(call digest,$(LOCK) requirements/bootstrap.txt)
HAS_PROJECT := $(VENV)/project-$(call digest,pyproject.toml)

.PHONY: help install run test test-full models-full flags-full check format lock clean
.DELETE_ON_ERROR:

help:
	@echo "make run        set up, then serve the embedded model (Ctrl-C stops it)"
	@echo "make test       set up, then run the tests          (<= 25 minutes on 2 cores)"
	@echo "make test-full  the long tests too                  (<= 75 minutes)"
	@echo "make models-full  tiny engines of every architecture (<= 20 minutes)"
	@echo "make flags-full   every proposed engine built on paper  (<= 90 minutes)"
	@echo "make check      format, lint, types, house rules"
	@echo "make format     mend what can be mended"
	@echo "make lock       resolve requirements/*.lock anew; UPGRADE=1 takes newer versions"
	@echo "make clean      remove the environment and all caches in this folder"

install: $(HAS_PROJECT)
	@:

run: install
	@exec $(BIN)/ballast up $(ARGS)

test: install
	@exec $(BIN)/python -m pytest -m "not full" $(PYTEST_ARGS)

test-full: install
	@exec $(BIN)/python -m pytest -m "not models" $(PYTEST_ARGS)

models-full: install
	@exec $(BIN)/python -m pytest tests/e2e/test_architectures.py $(PYTEST_ARGS)

flags-full: install
	@exec $(BIN)/python -m pytest tests/e2e/test_flag_check.py $(PYTEST_ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_house.py $(PYTEST_ARGS)

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(HAS_ENV):
	@test -n "$(PYTHON)" || { echo "Python 3.11 not found. Install it (Debian, Ubuntu: \
	python3.11 and python3.11-venv) or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "cannot make a virtual environment: install \
	the venv module (Debian, Ubuntu: python3.11-venv)" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(HAS_PACKAGES): $(HAS_ENV)
	@rm -f $(VENV)/packages-* $(VENV)/project-*
	@sh requirements/install.sh $(VENV) $(LOCK)
	@touch $@

$(HAS_PROJECT): $(HAS_PACKAGES)
	@rm -f $(VENV)/project-*
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline \
		--no-deps --no-build-isolation --editable .
	@touch $@

# Locks name no host and hash every file. The CPU build of torch is found as in install.sh.
COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade)

lock: install
	$(COMPILE) pyproject.toml -o requirements/gateway.lock
	$(COMPILE) pyproject.toml --extra cpu --extra kubernetes --extra traces --extra reports --group dev --overrides requirements/overrides.txt \
		$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend cpu) \
		-o requirements/cpu.lock
	printf 'uv==%s\n' $(UV_VERSION) | $(BIN)/uv pip compile - --quiet --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" \
		-o requirements/bootstrap.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist ballast.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
