# make demo   sets everything up, trains a small Conformer, compresses it to half its size, reports what that cost
# make test   sets everything up, then runs the tests
# make check  sets everything up, then runs the style and type checks
# make docs   sets everything up, then builds the documentation and checks it: build/site/index.html

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check docs setup clean

demo: setup
	$(BIN)/compress demo

test: setup
	$(BIN)/python -m pytest --numprocesses logical --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m tools.docs.build

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[test,docs,export]"
	touch $@

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
