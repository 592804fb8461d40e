# Every target makes .venv when it is missing; nothing else is needed beside Python 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
RUN_DIR ?= runs/demo

.PHONY: demo test lint docs bench clean
.DEFAULT_GOAL := demo

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: .venv/.installed
	$(BIN)/ntklens demo --out $(RUN_DIR) --overwrite

test: .venv/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal   # a thread a worker: two workers, two cores

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.docs
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

bench: .venv/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv docs/_build runs
