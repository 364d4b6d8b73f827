# The one task runner. `make` alone shows what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-system mutants check format ui clean

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# what an installation depends on: a change of either installs again
$(READY): pyproject.toml constraints.txt
	@echo "== setup: a virtual environment in $(VENV), with the versions of constraints.txt (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; this is $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## install into .venv (make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu for torch without CUDA)
	@echo "setup: $$($(BIN)/python --version), torch $$($(BIN)/python -c 'import torch; print(torch.__version__)')"

repro: $(READY) ## run the whole pipeline: photos -> a trained, benchmarked, registered model (profile: params.yaml)
	@echo "== repro: profile $$(sed -n 's/^profile: *//p' params.yaml); stages whose inputs did not change are skipped"
	@GWAINET_PIPELINE_KEY=$${GWAINET_PIPELINE_KEY:-make/$$(date -u +%Y%m%dT%H%M%SZ)-$$$$} dvc repro $(ARGS)
	@python -m gwainet where

test: $(READY) ## run the tests (under 15 minutes)
	@echo "== test: the tests that need nothing but this installation; slow ones: make test-system"
	@python -m pytest -m "not system" $(ARGS)
	@echo "test: all passed. Slow tests and those that need a browser or a server: make test-system"

test-system: $(READY) ## run the slow tests too: kills, servers, browsers; what is missing is skipped with its reason
	@python -m pytest -rs -m system $(ARGS)

mutants: $(READY) ## change the code at every row of docs/paper.md and see its tests fail (make mutants ARGS='"Eq. 8" L7')
	@OMP_NUM_THREADS=1 python -m tests.mutations $(ARGS)

check: $(READY) ## ruff, format, strict types, the layers
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@echo "check: all passed"

format: $(READY) ## put the code into its format
	@ruff check --fix . && ruff format .

ui: $(READY) ## MLflow on http://127.0.0.1:5000 with the runs just made (make ui PORT=5001)
	@python -m gwainet ui --port $(PORT)

clean: ## remove what runs made, but never data/source
	@rm -rf models reports mlruns mlflow.db* .gwainet dvc_plots dvc.lock
	@for d in data/*/; do case "$$d" in data/source/) ;; *) rm -rf "$$d" ;; esac; done
	@echo "clean: removed runs, models and reports; kept data/source, $(VENV) and DVC's cache (.dvc/cache)"
