# `make demo` and `make test` do all set-up themselves; the second time nothing is installed again.
# They need Python 3.11 or newer and a POSIX shell: PYTHON=/path/to/python make demo

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_WORKERS ?= 2
DEMO_OUTPUT ?= demo
DEMO_TRACKING := sqlite:///$(abspath $(DEMO_OUTPUT))/mlflow.db
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format typecheck clean

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make the environment

# torch comes first and alone: the pin then takes the CPU wheel on a machine without CUDA, and nothing else can pull
# another build in before it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# Everything lands below $(DEMO_OUTPUT)/. The training run is only long enough to show what is tracked.
demo: $(STAMP) ## a virtual chest CT as DICOM, screened to a report, then a short tracked training run
	rm -rf $(DEMO_OUTPUT)/chest_ct $(DEMO_OUTPUT)/result $(DEMO_OUTPUT)/training
	mkdir -p $(DEMO_OUTPUT)
	$(BIN)/osteo-monai virtual ct --output $(DEMO_OUTPUT)/chest_ct
	$(BIN)/osteo-monai screen $(DEMO_OUTPUT)/chest_ct/dicom --output $(DEMO_OUTPUT)/result
	cd bundles/vertebral_body_segmentation_ct && $(abspath $(BIN))/python -m monai.bundle run \
	    --meta_file configs/metadata.json --config_file "['configs/common.json','configs/train.json']" \
	    --output_dir "\$$'$(abspath $(DEMO_OUTPUT))/training'" --tracking_uri "$(DEMO_TRACKING)" \
	    --epochs 2 --epoch_length 8 --batch_size 4 --validation_items 8 --num_workers 0
	@echo
	@echo "Report:  $(DEMO_OUTPUT)/result/report.html (and result.json and labels.nii.gz beside it)"
	@echo "Runs:    $(BIN)/mlflow ui --backend-store-uri $(DEMO_TRACKING)"

# One thread a worker: two workers with two threads each only get in one another's way.
test: $(STAMP) ## run all tests
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff put it right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP) ## mypy on the package
	$(BIN)/mypy

clean: ## remove the environment and what runs wrote
	rm -rf .venv demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
