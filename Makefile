# The one task runner. `make` alone shows what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
TENSORFLOW_VENV := .venv-tensorflow
TENSORFLOW_READY := $(TENSORFLOW_VENV)/.ready
export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
PORT ?= 5000
COMMA := ,
ENGINE ?= docker
VARIANT ?= cuda
IMAGE ?= $(shell sed -n 's/^image: *\([^ ]*\).*/\1/p' cluster.yaml)
# without a password; only where it is a page
SOURCE ?= $(shell git config --get remote.origin.url | sed -n 's|^\(https\{0,1\}://\)\([^/]*@\)*|\1|p')
# taken from the environment where they are set there
PIP_SETTINGS := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST
IMAGE_FILES := Dockerfile .dockerignore pyproject.toml constraints.txt README.md LICENSE gwainet components pipeline

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-system test-tensorflow mutants check format ui image clean

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# a virtual environment in the folder $(1) with the extras $(2)
define install
	@echo "== setup: a virtual environment in $(1), with the versions of constraints.txt (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; this is $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[$(2)]'
	@touch $@
endef

# what an installation depends on: a change of either installs again
$(READY): pyproject.toml constraints.txt
	$(call install,$(VENV),dev)

$(TENSORFLOW_READY): pyproject.toml constraints.txt
	$(call install,$(TENSORFLOW_VENV),dev$(COMMA)tensorflow)

setup: $(READY) ## install into .venv (make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu for torch without CUDA)
	@echo "setup: $$($(BIN)/python --version), torch $$($(BIN)/python -c 'import torch; print(torch.__version__)')"

repro: $(READY) ## run the whole pipeline: photos -> a trained, benchmarked, registered model (profile: params.yaml)
	@echo "== repro: profile $$(sed -n 's/^profile: *//p' params.yaml); stages whose inputs did not change are skipped"
	@python -m gwainet mirror-source
	@GWAINET_PIPELINE_KEY=$${GWAINET_PIPELINE_KEY:-make/$$(date -u +%Y%m%dT%H%M%SZ)-$$$$} dvc repro $(ARGS)
	@python -m gwainet where

test: $(READY) ## run the tests (some 17 minutes on two cores)
	@echo "== test: the tests that need nothing but this installation; slow ones: make test-system"
	@python -m pytest -m "not system" -n logical --maxprocesses 8 --dist loadfile $(ARGS)
	@echo "test: all passed. Slow tests and those that need a browser or a server: make test-system"

test-system: $(READY) ## run the slow tests too: kills, servers, browsers; what is missing is skipped with its reason
	@python -m pytest -rs -m system $(ARGS)

test-tensorflow: $(TENSORFLOW_READY) ## compare the imported authors' weights with TensorFlow, in an environment of its own
	@$(TENSORFLOW_VENV)/bin/python -c 'import tensorflow'  # without it the tests would skip themselves
	@$(TENSORFLOW_VENV)/bin/python -m pytest -s -m tensorflow tests/tensorflow $(ARGS)
	@echo "test-tensorflow: all passed"

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

image: ## build the container image that cluster.yaml names (make image VARIANT=cpu IMAGE=registry/gwainet-python:1)
	@echo "== image: $(IMAGE), $(VARIANT)"
	@if [ -z "$$(git status --porcelain -- $(IMAGE_FILES) 2>&1)" ]; then commit=$$(git rev-parse HEAD); else \
			commit=unknown; echo "image: not everything is committed, so it will name no commit"; \
		fi; \
		$(ENGINE) build $(foreach name,BASE_IMAGE TORCH_INDEX,$(if $($(name)),--build-arg $(name)=$($(name)))) \
			$(PIP_SETTINGS:%=--build-arg %) --build-arg VARIANT=$(VARIANT) --build-arg COMMIT=$$commit \
			--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
			$(if $(SOURCE),--label org.opencontainers.image.source=$(SOURCE)) -t $(IMAGE) $(ARGS) .
	@echo "image: built $(IMAGE); push it with: $(ENGINE) push $(IMAGE)"

clean: ## remove what runs made, but never data/source
	@rm -rf models reports mlruns mlflow.db* .gwainet dvc_plots dvc.lock
	@for d in data/*/; do case "$$d" in data/source/) ;; *) rm -rf "$$d" ;; esac; done
	@echo "clean: removed runs, models and reports; kept data/source, $(VENV) and DVC's cache (.dvc/cache)"
