# From nothing but Python and make:   make demo   |   make test   |   make check
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO_SEED := 7
DEMO_BIN := .venv-demo/bin

.PHONY: demo test check lint types imports demo-bundle clean

# The base install, as a device gets it: no torch.
demo: .venv-demo/installed
	$(DEMO_BIN)/edgepain demo

test: .venv/installed
	$(BIN)/pytest -q --numprocesses auto --dist loadfile

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

# How the packaged demonstration was made: simulated people, a model trained on them, a recording of one more.
demo-bundle: .venv/installed
	rm -rf build/people build/demo-run edgepain/demo/recording.*
	$(BIN)/edgepain data synth build/people --layout e4 --subjects 60 --seed 11
	$(BIN)/edgepain train --dataset e4 --root build/people --option positive=pain --option "negative=no pain" \
	    --config demo --holdout 12 --seed 0 --threads 1 --out build/demo-run
	$(BIN)/edgepain export build/demo-run --compact --demonstration --name demonstration --out edgepain/demo/bundle --force
	$(BIN)/edgepain data synth edgepain/demo/recording.csv.gz --layout recording --seconds 180 --seed $(DEMO_SEED)

clean:
	rm -rf .venv .venv-demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
