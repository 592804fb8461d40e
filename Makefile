# Every target makes .venv when it is missing; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
RUN_DIR ?= runs/demo

.PHONY: demo test lint docs bench clean
.DEFAULT_GOAL := demo

# The package in editable form, with everything that the tests need.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Every stage on real images, with a report in $(RUN_DIR)/report.html.
demo: .venv/.installed
	$(BIN)/ntklens demo --out $(RUN_DIR) --overwrite

# Two workers on two cores, with one thread each: more threads would only take turns.
test: .venv/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Format, style, types and layer contracts; nothing is changed.
lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation, into docs/_build/html; a warning is an error.
docs: .venv/.docs
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

# Speed and memory beside the peer's, printed as a table.
bench: .venv/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv docs/_build runs
