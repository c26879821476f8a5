# Torpor. `make` alone lists what there is; `make run` and `make test` install what they need, from the locks, by hash.
# Needed on the machine: make and Python 3.11 to 3.13. No compiler. (PYTHON=/path/to/python3.11 names another interpreter.)

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
LOCK := configs/lock
ARGS ?=
SEEDS ?= 2000
FIRST ?= 1
SEED ?= 1
JOBS ?= 2

# Packages come as wheels; the two pure source distributions are built by tools that are locked as well.
INSTALL := $(UV) pip install --compile-bytecode --python $(PY) --no-deps --require-hashes --build-constraints $(LOCK)/build.txt

# The project itself, as it stands in this tree: for the command `torpor`.
TORPOR := $(UV) pip install --quiet --python $(PY) --no-deps --build-constraints $(LOCK)/build.txt --editable .

ifdef ONCE
export ONCE
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install dev rqlited run test lint types format pages fuzz seeds stalls bench lock dist clean distclean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	@echo "  ONCE=1 with run: leave after the walk.  ARGS='-k wake' with test, fuzz, bench: passed on."

# ------------------------------------------------------------------------------------------------------- what users do

run: install ## Start a node on fresh ports and data and walk through a database's life (ONCE=1: leave after the walk)
	@$(PY) -m runtime.demo

test: dev lint types ## Everything: lint, types, generated pages, all tests with a real rqlited (JOBS=2 processes)
	TORPOR_REQUIRE_RQLITED=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

# -------------------------------------------------------------------------------------------------- what developers do

lint: $(VENV)/.dev ## Style, the import fence, and that no generated page is stale
	$(PY) -m ruff check
	$(PY) -m ruff format --check --quiet
	$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-cache
	$(PY) -m protocol.describe --check
	$(PY) -m runtime.settings --markdown --check

types: $(VENV)/.dev ## Strict types of protocol, sim and runtime
	$(PY) -m pyright

format: $(VENV)/.dev ## Bring all code into the form that lint wants
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

pages: $(VENV)/.run ## Write the generated pages of specs/ again
	$(PY) -m protocol.describe
	$(PY) -m runtime.settings --markdown
	$(PY) specs/shown.py

fuzz: dev ## The property tests with the long profile (minutes; a failure prints the command that replays it)
	HYPOTHESIS_PROFILE=long TORPOR_REQUIRE_RQLITED=1 $(PY) -m pytest --timeout=0 -m hypothesis $(ARGS)

seeds: $(VENV)/.run ## The corpus and generated clusters, as CI does (SEEDS=2000 FIRST=1 JOBS=2; failures/ gets what breaks)
	$(PY) -m sim corpus
	$(PY) -m sim fuzz --profile cluster --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS) --coverage $(ARGS)

stalls: dev ## The tests of real processes, which are stopped for a moment again and again (SEED=1; half an hour)
	TORPOR_REQUIRE_RQLITED=1 $(PY) -m tests.stalls --seed $(SEED) tests/runtime tests/client --numprocesses $(JOBS) --dist loadfile $(ARGS)

bench: install ## Ours beside the raw floor, and the simulator's speed (ARGS=--json: one object each)
	@$(PY) -m runtime.bench lifecycle $(ARGS)
	@$(PY) -m sim bench $(ARGS)

dist: $(VENV)/.run ## The wheel and the source distribution, into dist/
	$(UV) build --python $(PY) --build-constraints $(LOCK)/build.txt --require-hashes

lock: $(UV) ## Write the lock files again from pyproject.toml (UPGRADE=1: with the newest versions)
	@$(LOCK)/lock.sh $(UV)

clean: ## Remove what tests, tools and demos left
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## The same, and the virtual environment with all that is installed in it
	rm -rf $(VENV)

# -------------------------------------------------------------------------------------------------------- installation

install: $(VENV)/.run rqlited
dev: $(VENV)/.dev rqlited

$(UV): $(LOCK)/uv.txt
	@$(LOCK)/venv.sh $(VENV)

$(VENV)/.run: $(LOCK)/run.txt $(LOCK)/build.txt | $(UV)
	@echo "torpor: installing the locked packages"
	@$(INSTALL) --requirement $<
	@$(TORPOR)
	@touch $@

$(VENV)/.dev: $(LOCK)/dev.txt $(LOCK)/build.txt | $(UV)
	@echo "torpor: installing the locked packages and the tools of make test"
	@$(INSTALL) --requirement $<
	@$(TORPOR)
	@rm -rf $(VENV)/lib/python*/site-packages/trio-stubs # libp2p's trio_typing brings them: of 2022, they hide trio's own types
	@touch $(VENV)/.run $@

rqlited: $(UV)
	@configs/rqlited/provide.sh $(VENV)
