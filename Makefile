# make demo: a small ViT on scikit-learn's digits, a ray-traced scene and its orbit (offline once installed); make test;
# make lint
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint

demo: $(VENV)/installed
	$(BIN)/python -m jaxhw.main --config=configs/vit.py:digits --workdir=runs/digits
	$(BIN)/python -m jaxhw.main --config=configs/dvgo.py:demo --workdir=runs/demo
	$(BIN)/jaxhw render --workdir=runs/demo --path=orbit --frames=60

test: $(VENV)/installed
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Made anew only when pyproject.toml changed.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
