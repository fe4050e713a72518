# Two commands for a new user: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo gallery test fuzz clean

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

clean:
	rm -rf $(VENV) demo
