# Every command a newcomer needs; each target sets up what it depends on.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup search test drill lint format types docs bench wheel clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
		"expected Python 3.11 to 3.13, found %d.%d; name another as PYTHON=python3.13" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

setup: $(STAMP) ## Create the virtual environment and install

search: $(STAMP) ## Run a search; pass options as ARGS="--space smoke --budget 6"
	$(BIN)/marsexp search $(if $(findstring --budget,$(ARGS)),,$(if $(findstring --resume,$(ARGS)),,--budget 40)) $(ARGS)

# Two at a time, since half of the tests wait for processes they have started; each file runs in one process. Every
# process would compile our modules again where Python is told to keep no bytecode.
test: $(STAMP) ## Run the tests; pass options as ARGS="-k ledger"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

drill: $(STAMP) ## Kill searches at every point where that is possible, for an hour; ARGS="--kills 20" for less
	$(BIN)/python -m pytest drills -s $(ARGS)

lint: $(STAMP) ## Check style, imports and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

types: $(STAMP) ## Check types
	$(BIN)/mypy

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## Generate docs/cli.md and docs/config.md from the help texts of the commands and the config
	$(BIN)/python -m marsseg.cli.reference docs/cli.md
	$(BIN)/python -m marsseg.config.reference docs/config.md

bench: $(STAMP) ## Run the benchmarks and write docs/benchmarks.md; ARGS="cli_start" for some
	$(BIN)/python -m benchmarks $(ARGS)

wheel: $(STAMP) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
