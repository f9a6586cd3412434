# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
PORT ?= 7860
ARTIFACTS ?= artifacts
KILLS ?= 200
EXAMPLES ?= 1000
PROCESSES ?= 10
USERS ?= 50
LOAD_S ?= 300
REPEATS ?= 20
LONG ?= tests/robustness/test_kills.py tests/robustness/test_kills_wandb.py tests/robustness/test_concurrent.py tests/robustness/test_damaged_store.py tests/robustness/test_hostile_models.py \
	tests/robustness/test_hostile_texts.py tests/robustness/test_hostile_data.py tests/data/test_image_file.py tests/robustness/test_load.py tests/robustness/test_leaks.py tests/models/test_memory_layouts.py
BIN := .venv/bin
STAMP := .venv/.installed
# One file's tests stay in one process, since they share what they set up; workers beyond four would only fill the memory.
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: help setup setup-system demo test test-quick test-long test-oldest bench check format starter clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP) ## make .venv with cvx, what it needs, and what tests and checks need

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 10) and f"cvx needs Python 3.10 or newer, got {v}; name another with `make PYTHON=python3.11 …`")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@

setup-system: ## install with apt what pip cannot: Chromium for the browser tests, Fashion-MNIST
	apt-get update
	apt-get install -y --no-install-recommends chromium dataset-fashion-mnist

demo: $(STAMP) ## train the starter models if the store has none, or finish them, then serve the demo on PORT
	@$(BIN)/python -m cvx starter --artifacts=$(ARTIFACTS) --if_empty=True
	@$(BIN)/python demo/app.py --artifacts=$(ARTIFACTS) --port=$(PORT)

starter: $(STAMP) ## train the starter models again
	$(BIN)/python -m cvx starter --artifacts=$(ARTIFACTS)

test: $(STAMP) ## every test that needs no network
	$(PYTEST)

test-quick: $(STAMP) ## the tests that take seconds
	$(PYTEST) -m 'not slow and not browser'

test-long: $(STAMP) ## hundreds of kills, thousands of malicious files, fifty users (LONG=FILE for one); outcome in tests/long/results.txt
	CVX_KILLS=$(KILLS) CVX_EXAMPLES=$(EXAMPLES) CVX_PROCESSES=$(PROCESSES) CVX_USERS=$(USERS) CVX_LOAD_S=$(LOAD_S) CVX_REPEATS=$(REPEATS) CVX_SCAN=1 \
		OMP_NUM_THREADS=1 $(BIN)/python tests/long/run.py $(LONG)

test-oldest: ## the quick tests on the oldest versions that requirements.txt admits, in .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --disable-pip-version-check --quiet uv
	.venv-oldest/bin/uv pip install --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	.venv-oldest/bin/python -m pytest -m 'not slow and not browser' --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

bench: $(STAMP) ## measure speed on this machine and write docs/benchmarks.md (TOPIC=maps for one topic; accuracy takes 40 minutes and runs only so)
	$(BIN)/python tests/benchmarks/run.py $(TOPIC)

check: $(STAMP) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; artifacts stay
	rm -rf .venv .venv-oldest .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
