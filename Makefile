PYTHON ?= python3.11
NEWEST ?= python3.13
VENV := .venv
BIN := $(VENV)/bin
RUN := sample_logs/mlp-gd.zarr
PARALLEL := -n auto --dist worksteal
# Every case of every sweep: see tests/sweeps.py.
WHOLE := GRADMF_TEST_SWEEPS=whole
# Else each of a thousand processes compiles gradmf anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo docs test test-all test-extras test-lowest test-newest lint bench clean

demo: $(VENV)/.installed
	@$(BIN)/gradmf analyze $(RUN)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(VENV)/.dev lint
	$(WHOLE) $(BIN)/python -m pytest $(PARALLEL) -m "(slow or not slow) and not extras"
	@$(MAKE) --no-print-directory test-extras
	$(WHOLE) build/extras/bin/python -m pytest $(PARALLEL) -m "extras and slow"
	@$(MAKE) --no-print-directory test-lowest
	@$(MAKE) --no-print-directory test-newest

# Tests against the libraries that people train with: PyTorch, transformers, Lightning, JAX, and what they save.
test-extras: build/extras/.installed $(VENV)/.installed
	build/extras/bin/python -m pytest $(PARALLEL) -m "extras and not slow"

# The lowest versions that pyproject.toml allows, without zarrs.
test-lowest: build/lowest/.installed $(VENV)/.installed
	build/lowest/bin/python -m pytest $(PARALLEL)
	build/lowest/bin/python -m pytest $(PARALLEL) -m slow tests/test_resume.py

# The newest Python and the newest versions, with zarrs where there is a wheel of it.
test-newest: build/newest/.installed $(VENV)/.installed
	build/newest/bin/python -m pytest $(PARALLEL)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/typed/gradmf && cd build/typed/gradmf && ln -sfn ../../../cli cli && \
		ln -sfn ../../../gradlog gradlog && ln -sfn ../../../kernels kernels && \
		ln -sfn ../../../gradmf/__main__.py __main__.py
	MYPYPATH=build/typed $(BIN)/mypy

# The report and the figure that the documents show, of the sample logs.
docs: build/report/.installed
	build/report/bin/gradmf report -q sample_logs/mlp-gd.zarr sample_logs/mlp-sgd.zarr -o docs/report.html
	build/report/bin/gradmf plot -q sample_logs/mlp-sgd.zarr --panel kappa --panel spectrum -o docs/figure.svg

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

build/extras/.installed: pyproject.toml
	@echo "setting up build/extras with $(PYTHON)" >&2
	@$(PYTHON) -m venv build/extras
	@build/extras/bin/python -m pip install -qq --editable '.[zarrs,test,test-extras]'
	@touch $@

build/report/.installed: pyproject.toml
	@echo "setting up build/report with $(PYTHON)" >&2
	@$(PYTHON) -m venv build/report
	@build/report/bin/python -m pip install -qq --editable '.[report]'
	@touch $@

build/lowest/.installed: pyproject.toml tests/lowest_versions.py
	@echo "setting up build/lowest with $(PYTHON)" >&2
	@$(PYTHON) -m venv --clear build/lowest
	@build/lowest/bin/python tests/lowest_versions.py > build/lowest/constraints.txt
	@build/lowest/bin/python -m pip install -qq --constraint build/lowest/constraints.txt --editable '.[test]'
	@touch $@

build/newest/.installed: pyproject.toml
	@$(NEWEST) --version > /dev/null 2>&1 || { echo "no $(NEWEST): give NEWEST=/path/to/python3.13" >&2; exit 1; }
	@echo "setting up build/newest with $(NEWEST)" >&2
	@$(NEWEST) -m venv --clear build/newest
	@build/newest/bin/python -m pip install -qq --editable '.[test]'
	@build/newest/bin/python -m pip install -qq --only-binary zarrs --editable '.[zarrs]' || \
		echo "no wheel of zarrs for $(NEWEST): its tests are skipped" >&2
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
