# make serve   serve the embedded models on http://localhost:3000 (PORT=, HOST= change it)
# make test    lint, types and tests in an environment of their own
# make lint    only the first two
# make zoo     the slow tests, then the proof of every network; two hours
# make export  (re)build the embedded models
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000

SERVE_ENV := .venv
TEST_ENV := .venv-test
PIP := -m pip --disable-pip-version-check --no-input
# each server has a BentoML home of its own: BentoML empties its metrics folder at start
export BENTOML_DO_NOT_TRACK ?= True

.PHONY: serve test zoo lint format export clean

serve: $(SERVE_ENV)/.installed
	BENTOML_HOME="$${BENTOML_HOME:-$(CURDIR)/.bentoml/$(PORT)}" exec \
		$(SERVE_ENV)/bin/bentoml serve service.app:ZooService --host $(HOST) --port $(PORT)

test: lint
	$(TEST_ENV)/bin/python -m pytest

zoo: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m pytest -m zoo
	$(TEST_ENV)/bin/python -m export verify --all

lint: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/mypy

format: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff format .
	$(TEST_ENV)/bin/ruff check --fix .

export: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m export build efficientnet_lite0 --force
	$(TEST_ENV)/bin/python -m export build lenet5 --force

$(SERVE_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(SERVE_ENV)
	$(SERVE_ENV)/bin/python $(PIP) install --quiet --editable '.[cpu,fast]'
	touch $@

$(TEST_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/python $(PIP) install --quiet --editable '.[cpu,fast,export,load,dev]'
	touch $@

clean:
	rm -rf $(SERVE_ENV) $(TEST_ENV) .bentoml *.egg-info .mypy_cache .ruff_cache .pytest_cache
