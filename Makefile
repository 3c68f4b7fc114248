# Everything a contributor runs. `make` alone lists the targets.
#
#   make test ARGS="-k alarms -x" JOBS=0  arguments for pytest, tests one at a time
#   make bench W=W1 STORE=sqlite         some workloads, some stores
#   make test PYTHON=python3.13          another Python, 3.11 or newer, in an environment of its own

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
W ?=
STORE ?=

# Of its own is the environment of a Python that is named: .venv-python3.13.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.stamp
PEERS := .venv-peers/bin/python
PEERS_STAMP := .venv-peers/.stamp
# A test process that crashes fails the run at once (without the option, pytest-xdist may wait for
# ever), and so does a test that takes five minutes, with the stack of each thread.
IN_PARALLEL := -n $(JOBS) --dist loadfile --max-worker-restart=0 \
	-o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true

define NEED_PYTHON
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "wakelog needs Python 3.11 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
	echo "name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
endef

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup pgbouncer demo test chaos frameworks check format blocking bench peers bench-peers wheel constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make the environment and install everything into it

pgbouncer:  ## install Debian's PgBouncer, as root: without it some tests are skipped
	@test -x /usr/sbin/pgbouncer || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends pgbouncer; }

demo: $(STAMP)  ## see it work
	@$(BIN)/wakelog demo

test: $(STAMP)  ## run the tests; ARGS="-k name" to choose, JOBS=0 for one at a time
	@$(PY) -m pytest $(IN_PARALLEL) $(ARGS)

chaos: $(STAMP)  ## run the minutes-long tests that kill processes
	@$(PY) -m pytest -m chaos -rP $(ARGS)

frameworks: $(STAMP)  ## run the tests with frameworks that are too slow for `make test`
	@$(PY) -m pytest -m frameworks $(ARGS)

check: $(STAMP)  ## format, lint, types, layers and tests: all that must pass
	@echo "== format"
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted; run: make format" >&2; exit 1; }
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@echo "== spelling"
	@$(BIN)/codespell
	@echo "== types (mypy)"
	@$(BIN)/mypy
	@echo "== types (pyright)"
	@$(BIN)/pyright
	@echo "== layers"
	@$(BIN)/lint-imports --no-logo
	@echo "== tests"
	@$(PY) -m pytest $(IN_PARALLEL) $(ARGS)

format: $(STAMP)  ## format the code and fix what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

blocking: $(STAMP)  ## make the blocking clients anew from the async ones
	@$(PY) -m tests.blocking_source

bench: $(STAMP)  ## measure; W= some workloads, STORE= some stores
	@$(PY) tests/bench/run.py $(if $(W),--workloads $(W)) $(if $(STORE),--stores $(STORE))

peers: $(PEERS_STAMP)  ## install what bench-peers compares with: without it some tests are skipped

bench-peers: $(STAMP) $(PEERS_STAMP)  ## measure beside other libraries; ARGS="--peers awa --rounds 1"
	@$(PY) -m tests.bench.peers.run $(ARGS)

wheel: $(STAMP)  ## build the wheel into dist/
	@rm -rf dist
	@$(PY) -m build --wheel --no-isolation --outdir dist .

# Pins what a fresh environment gets: $(1) for pip, $(2) the environment, $(3) the file.
define PIN
@echo "resolving the newest versions for $(3) in a fresh environment ..."
@rm -rf .venv-constraints
@$(PYTHON) -m venv .venv-constraints
@.venv-constraints/bin/python -m pip uninstall -qq -y setuptools
@.venv-constraints/bin/python -m pip install -qq --upgrade pip
@.venv-constraints/bin/python -m pip install -qq $(1)
@echo "# Every package of $(2), pinned. To remake it with the newest: make constraints" \
	> .venv-constraints/$(3)
@.venv-constraints/bin/python -m pip freeze -qq --all --exclude wakelog >> .venv-constraints/$(3)
@mv .venv-constraints/$(3) $(3)
@rm -rf .venv-constraints
endef

constraints:  ## remake constraints.txt and constraints-peers.txt with the newest versions allowed
	$(NEED_PYTHON)
	$(call PIN,--group dev --group frameworks .,.venv,constraints.txt)
	$(call PIN,--group peers,.venv-peers,constraints-peers.txt)

clean:  ## remove .venv and all that was built
	@rm -rf .venv .venv-* dist htmlcov .coverage .coverage.*
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find engine projections adapters tests examples -name __pycache__ -type d -prune \
		-exec rm -rf {} +

# A .venv that was cut short has no working pip: start it anew. Else only what changed is installed.
$(STAMP): pyproject.toml constraints.txt
	$(NEED_PYTHON)
	@echo "setting up $(VENV) (about a minute, once) ..."
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq -c constraints.txt pip
	@$(PY) -m pip install -qq -c constraints.txt --group dev --group frameworks
	@$(PY) -m pip install -qq -c constraints.txt --no-build-isolation -e .
	@touch $@

$(PEERS_STAMP): pyproject.toml constraints-peers.txt
	$(NEED_PYTHON)
	@echo "setting up .venv-peers (about a minute, once) ..."
	@$(PEERS) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-peers
	@$(PEERS) -m pip install -qq -c constraints-peers.txt pip
	@$(PEERS) -m pip install -qq -c constraints-peers.txt --group peers
	@touch $@
