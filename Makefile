# Two commands for a new user: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo gallery test test-fast coverage typecheck docs fuzz clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

gallery: $(VENV)/.installed
	$(BIN)/python examples/gallery.py

test: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/python -m pytest -n 2

# An hour of broken files and kills (docs/reliability.md); FUZZ_SECONDS=600 for ten minutes, FUZZ_SEED for other cases.
fuzz: $(VENV)/.installed
	FUZZ_SECONDS=$${FUZZ_SECONDS:-3600} $(BIN)/python -m pytest -n 2 --timeout 3600 tests/fuzz

# Without the tests that tests/slow.txt names: under a minute
test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 -m "not slow"

# Every test, and which lines of src none of them ran
coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --cov=diffsal --cov-report=term-missing:skip-covered --cov-report=html

typecheck: $(VENV)/.installed
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo site htmlcov
