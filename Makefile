# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
# `make ui` shows the runs. Python 3.11 or newer and make are all that must be there.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
PORT ?= 5000
BIN := .venv/bin
INSTALLED := .venv/.installed
PEERS := .peers/.installed
DOCS := .docs/.installed

# The commands find the environment as if it were activated; mlflow reports nothing to anybody.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Where Python is told to keep no bytecode, every one of the demo's and the tests' many processes would
# compile our modules anew, each for a second.
export PYTHONDONTWRITEBYTECODE :=
# Without git, which is not needed, every run would begin with a page about it.
export GIT_PYTHON_REFRESH := quiet
# uv has settings of its own for where to look.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.PHONY: setup upgrade-store demo test faults lint docs bench audit ui requirements mlproject clean

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt requirements-uv.txt setup.sh
	sh setup.sh "$(PYTHON)"
	PYTHONPATH=src python -m bench.tracking.store
	touch $@

# For a store that an older mlflow made: a copy is kept beside it. MLFLOW_TRACKING_URI may name it.
upgrade-store: setup
	PYTHONPATH=src python -m bench.tracking.store upgrade

# The main job end to end on synthetic data, into the embedded store: small source models of our
# own, trained on the phantom's other domain, stand in for the published ones. Fit for 2 cores.
DEMO := env -u MLFLOW_TRACKING_URI -u MLFLOW_RUN_ID mlflow run . --env-manager local --experiment-name demo
MODELS := data/demo_models
# As phantom_models trains it: the decoder alone, windows of one scale, thresholds for blurred maps.
SMALL_SAM := iterations=20;lr=1e-3;schedule=cosine;freeze=image_encoder+prompt_encoder+mask_decoder;patch_px=64;tile_px=64;halo_px=0;batch_size=4;sub_iterations=1;objects_per_batch=1;center_distance_threshold=0.8;boundary_distance_threshold=0.8
each_structure = vesicles=$(MODELS)/vesicles$(1).pt,mitochondria=$(MODELS)/mitochondria$(1).pt,membrane=$(MODELS)/membrane$(1).pt
demo: setup
	@echo "The demo runs every step once on synthetic data: about 8 minutes on two cores, longer without bf16."
	$(DEMO) -e prepare -P output=data/demo
	$(DEMO) -e phantom -P domain=cryo -P seed=1 -P output=data/demo_cryo_images
	$(DEMO) -e prepare -P input=data/demo_cryo_images -P output=data/demo_cryo
	$(DEMO) -e phantom_models -P dataset=data/demo_cryo -P output=$(MODELS) \
	    -P iterations=60 -P features=8 -P tile_px=512
	$(DEMO) -e benchmark -P dataset=data/demo -P output=results/demo -P methods=all \
	    -P source=$(call each_structure,) \
	    -P tile_px=512 -P patch_px=128 -P iterations=40 -P lr=1e-3 -P schedule=cosine -P epoch_iterations=20 \
	    -P domain_adapt="iterations=16;epoch_iterations=8;batch_size=1;patch_px=512;lr=4e-4;ema=0.9;schedule=cosine" \
	    -P microsam="source=$(call each_structure,_sam);$(SMALL_SAM)"
	$(DEMO) -e promote -P structure=mito -P replace=true
	rm -rf results/demo_montage
	$(DEMO) -e segment -P run_id=models:/synapse-bench-mitochondria-demo@champion -P input=data/phantom/montages/region2_section027.tif -P output=results/demo_montage
	@echo "Open results/demo/benchmark.html in a browser: it begins with the verdict of each structure."
	@echo "A montage segmented by the best combination is in results/demo_montage; 'make ui' shows the runs."

# A file is one process's: what its tests share is made once. WORKERS=0 is all in one process.
WORKERS ?= 2
test: setup
	python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Every step, worker, scheduler and server killed, the disk filled, the clock moved (docs/cluster.md).
faults: setup
	python -m pytest tests/faults --kills 100 -s

lint: setup
	ruff check .
	ruff format --check .
	hadolint Dockerfile
	mypy

# The documentation site, site/index.html; whatever is wrong with it is an error.
docs: setup $(DOCS)
	PYTHONPATH=src:$(CURDIR)/.docs python -m sphinx -W --keep-going -q -c docs/site docs site

$(DOCS): requirements-docs.txt $(INSTALLED)
	rm -rf .docs
	uv pip install --quiet --python $(BIN)/python --target .docs --no-deps --require-hashes \
	    -r requirements-docs.txt
	touch $@

# Every hot path beside what one would otherwise run; the table goes into benchmarks/README.md.
bench: setup $(PEERS)
	PYTHONPATH=src:$(CURDIR)/.peers python benchmarks/run_all.py

# What only the measurements need lies apart: it does not fit what the environment pins.
$(PEERS): requirements-bench.txt $(INSTALLED)
	rm -rf .peers
	uv pip install --quiet --python $(BIN)/python --target .peers --no-deps --require-hashes \
	    -r requirements-bench.txt
	touch $@

# Known weaknesses of the pinned packages. It needs an index that knows of them, and fails without.
audit: setup
	uv tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip -r requirements.txt

ui: setup
	PYTHONPATH=src python -m bench.tracking.store
	@env -u MLFLOW_TRACKING_URI -u MLFLOW_RUN_ID PYTHONPATH=src python -m bench.tracking.views $(PORT)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --port $(PORT) \
	    --backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db

# Pins and hashes what everything installs, without naming where it comes from.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command 'make requirements' --quiet
requirements: setup
	$(COMPILE) pyproject.toml --output-file requirements.txt
	$(COMPILE) --group dev --constraint requirements.txt --output-file requirements-dev.txt
	$(COMPILE) --group bench --no-deps --output-file requirements-bench.txt
	$(COMPILE) --group nnunet --no-deps --output-file requirements-nnunet.txt
	$(COMPILE) --group openvino --no-deps --output-file requirements-openvino.txt
	$(COMPILE) --group yolo --no-deps --output-file requirements-yolo.txt
	$(COMPILE) --group docs --constraint requirements.txt --output-file requirements-docs.txt
	echo uv | $(COMPILE) - --output-file requirements-uv.txt
	sed -i "s/has the hash [0-9a-f]*/has the hash $$(sha256sum requirements.txt | cut -c1-16)/" conda.yaml

# MLproject and docker/MLproject repeat the configs: run it after a setting or an entry point changed.
mlproject: setup
	PYTHONPATH=src python -m bench.config.mlproject

clean:
	rm -rf .venv .peers .docs site .pytest_cache .mypy_cache .ruff_cache
