# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
# `make ui` shows the runs. Python 3.11 or newer and make are all that must be there.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
PORT ?= 5000
BIN := .venv/bin
INSTALLED := .venv/.installed

# The commands find the environment as if it were activated; mlflow reports nothing to anybody.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Without git, which is not needed, every run would begin with a page about it.
export GIT_PYTHON_REFRESH := quiet

.PHONY: setup demo test lint ui bench requirements clean

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt requirements-uv.txt setup.sh
	sh setup.sh "$(PYTHON)"
	PYTHONPATH=src python -m bench.tracking.store
	touch $@

# The main job end to end on synthetic data, into the embedded store. Small enough for 2 cores.
DEMO := env -u MLFLOW_TRACKING_URI -u MLFLOW_RUN_ID mlflow run . --env-manager local --experiment-name demo
demo: setup
	$(DEMO) -e prepare -P output=data/demo
	$(DEMO) -e benchmark -P dataset=data/demo -P output=results/demo \
	    -P methods=scratch,scratch_dice -P features=16 -P patch_px=128 \
	    -P iterations=100 -P lr=2e-3 -P schedule=cosine -P epoch_iterations=50
	@echo "The table and the chart are in results/demo; 'make ui' shows the runs (experiment demo)."

test: setup
	python -m pytest

lint: setup
	ruff check .
	ruff format --check .
	mypy

ui: setup
	PYTHONPATH=src python -m bench.tracking.store
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --port $(PORT) \
	    --backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db

# Pins and hashes what everything installs, without naming where it comes from.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command 'make requirements' --quiet
requirements: setup
	$(COMPILE) pyproject.toml --output-file requirements.txt
	$(COMPILE) --group dev --constraint requirements.txt --output-file requirements-dev.txt
	echo uv | $(COMPILE) - --output-file requirements-uv.txt
	sed -i "s/has the hash [0-9a-f]*/has the hash $$(sha256sum requirements.txt | cut -c1-16)/" conda.yaml

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
