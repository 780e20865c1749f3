# Two commands for a newcomer: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test coverage lint format gpu-bundle fuzz audit image-check clean

# Python compiles a module when it is first imported and keeps the result, which some images forbid; the tests' hundreds of
# processes would each compile PyTorch and all else anew. To compile all of the packages at once would take over a minute.
export PYTHONDONTWRITEBYTECODE :=

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

test: $(STAMP)
	bash scripts/test_services.sh
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

# The same tests with every line counted, which takes a third longer: for a change that adds much code.
coverage: $(STAMP)
	bash scripts/test_services.sh
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu" --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What a GPU machine without network needs beside the tree, and the line that runs the benchmark there: benchmarks/README.md.
gpu-bundle: $(STAMP)
	$(BIN)/python -m benchmarks.gpu.bundle

# Thousands of broken files for every reader; CASES=300 for a quick look. Figures: docs/reliability.md.
CASES ?= 5000
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --cases $(CASES)

# Known vulnerabilities of the pinned versions. Needs an index that answers; says so when there is none.
audit: $(STAMP)
	$(BIN)/python scripts/audit.py

# Builds and runs deploy/Dockerfile's image; by hand, where buildah is.
image-check:
	bash scripts/image_check.sh

clean:
	rm -rf $(VENV) build dist outputs
