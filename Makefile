PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := sample_logs/mlp-gd.zarr
PARALLEL := -n auto --dist worksteal

.PHONY: demo test test-all lint bench clean

demo: $(VENV)/.installed
	@$(BIN)/gradmf analyze $(RUN)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(VENV)/.dev lint
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/typed/gradmf && cd build/typed/gradmf && ln -sfn ../../../cli cli && \
		ln -sfn ../../../gradlog gradlog && ln -sfn ../../../kernels kernels
	MYPYPATH=build/typed $(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

$(VENV)/.installed: pyproject.toml
	@echo "setting up $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --editable '.[zarrs]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --editable '.[zarrs,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
