# From nothing but Python and make:   make demo   |   make test   |   make check
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO_BIN := .venv-demo/bin

.PHONY: demo test check lint types imports clean

# The base install, as a device gets it: no torch.
demo: .venv-demo/installed
	$(DEMO_BIN)/edgepain demo

test: .venv/installed
	$(BIN)/pytest -q

check: lint types imports test

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

imports: .venv/installed
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv-demo
	$(DEMO_BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

clean:
	rm -rf .venv .venv-demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
