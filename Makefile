# Two commands for a new user: `make demo` and `make test`. Both make the environment first; the demo needs no torch.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo gallery test test-fast coverage typecheck docs web fuzz clean

$(VENV)/.small: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test]'
	touch $(VENV)/.small $@

demo: $(VENV)/.small
	$(BIN)/python examples/demo.py

gallery: $(VENV)/.installed
	$(BIN)/python examples/gallery.py

test: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# While you work: what is computed without a whole network, a process of its own or a browser
FAST := tests/test_layout.py tests/test_settings.py tests/cluster/test_manifest.py tests/data/test_samples.py \
	tests/data/test_tables.py tests/data/test_truth.py tests/diffusion tests/media/test_audio.py tests/media/test_pictures.py \
	tests/networks/test_audio_encoders.py tests/outputs/test_attention.py tests/prediction/test_finish.py \
	tests/prediction/test_noise.py tests/prediction/test_plan.py tests/scoring/test_metrics.py \
	tests/scoring/test_protocols.py tests/weights/test_pickles.py tests/web/test_server.py

test-fast: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(FAST)

# An hour of broken files and kills (docs/reliability.md); FUZZ_SECONDS=600 for ten minutes, FUZZ_SEED for other cases.
fuzz: $(VENV)/.installed
	FUZZ_SECONDS=$${FUZZ_SECONDS:-3600} $(BIN)/python -m pytest -n 2 --timeout 3600 tests/fuzz

# Every test, and which lines of src none of them ran
coverage: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --cov=diffsal --cov-report=term-missing:skip-covered --cov-report=html

typecheck: $(VENV)/.installed
	$(BIN)/mypy

# The site, into site/: any warning, any link that leads nowhere, is an error
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/.docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import mkdocstrings, material, diffsal" 2>/dev/null || $(BIN)/pip install --quiet -e '.[docs]'
	touch $@

# The page of `diffsal web`, built again from web/
web:
	cd web && npm ci --ignore-scripts && npm run check && npm test && npm run build

clean:
	rm -rf $(VENV) demo site htmlcov
