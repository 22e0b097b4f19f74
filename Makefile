# make demo: a small ViT on scikit-learn's digits, a ray-traced scene and its orbit (offline once installed); make test;
# make slow; make lint; make docs, the site in site/
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint docs

demo: $(VENV)/installed
	$(BIN)/python -m jaxhw.main --config=configs/vit.py:digits --workdir=runs/digits
	$(BIN)/python -m jaxhw.main --config=configs/dvgo.py:demo --workdir=runs/demo
	$(BIN)/jaxhw render --workdir=runs/demo --path=orbit --frames=60

# Quick tests compile more than they compute, so that a compiler that does less saves a quarter; slow ones train.
test: $(VENV)/installed
	JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=true $(BIN)/python -m pytest -n 2 -m "not slow"

# TESTS: which files, if not all. A file's tests share a page, a scene, a cluster: they stay together.
slow: $(VENV)/installed
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(TESTS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

# Made anew only when pyproject.toml changed.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $@
