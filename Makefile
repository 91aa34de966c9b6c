# Everything runs in .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.installed  ## recover a coefficient from 122 heads; a few minutes
	$(BIN)/pdediff run cases/darcy-sparse.yaml --out runs/demo

test: $(VENV)/.installed  ## the whole test suite
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed  ## the long evidence too
	$(BIN)/python -m pytest -m "slow or not slow" --timeout 1800

lint: $(VENV)/.installed  ## format, lint, types of the package as it is installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf build && $(BIN)/pip install --quiet --no-deps --target build/lint .
	MYPYPATH=build/lint $(BIN)/mypy --package pdediff

clean:  ## what is made by make; runs/ and training/ are yours
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,dev]"
	touch $@
