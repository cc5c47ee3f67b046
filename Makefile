# Every command does the set-up it needs, once; a second call does none of it again.
#   make lab PYTHON=python3.12              another Python (3.11 to 3.13)
#   make lab ARGS="--no-browser --port 9000"  more words for JupyterLab, pytest or the notebook runner

PYTHON ?= python3
ARGS ?=
PY := .venv/bin/python

.PHONY: help setup setup-dev lab run test lint unit mutants browser data base recorded notebooks pins clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## only make .venv and install the course (the others do it too)
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11, 3.12 or 3.13," \
		"or name the one you have: make lab PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) scripts/setup_env.py $(SET)

setup-dev: ## the same, with what tests and benchmarks need besides
	@$(MAKE) --no-print-directory setup SET=--dev

lab: setup ## open JupyterLab on notebook 00
	$(PY) -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir=. \
		--LabApp.default_url=/lab/tree/notebooks/00_whole_game.ipynb $(ARGS)

run: setup ## the whole series headless in the laptop profile, and a table at the end
	$(PY) notebooks/build.py run --profile laptop $(ARGS)

test: lint unit ## lint, unit tests, quick run of all notebooks
	$(PY) notebooks/build.py run --profile quick --jobs 2

lint: setup-dev ## style, and notebooks that no longer match their sources
	$(PY) -m ruff check .
	$(PY) -m ruff format --check -q .
	$(PY) notebooks/build.py check

unit: setup-dev ## unit tests alone (all of them, slow ones too: ARGS="-m ''")
	OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile --ignore=tests/browser $(ARGS)

mutants: setup-dev ## plant more than a hundred faults, one at a time, and demand that a test notices each (some minutes)
	$(PY) scripts/mutants.py $(ARGS)

browser: setup-dev ## the cards and the playground in a real JupyterLab and Chromium; skipped, in words, where there is no Chromium (some minutes)
	$(PY) -m pytest tests/browser -o timeout=600 $(ARGS)

data: setup ## write the bundled texts again, byte for byte
	$(PY) data/town/corpus.py

base: setup ## train the tokenizer and the bundled base model again, and measure it (some three hours of training on two cores)
	$(PY) data/town/train.py --out build/base --tokens 36000000 --decay 12000000
	$(PY) data/town/examine.py build/base
	$(PY) data/town/publish.py build/base

recorded: setup ## label, fit and tune again what notebooks fall back on (about an hour)
	$(PY) data/make_recorded.py --collect --seeds 0 $(ARGS)
	$(PY) data/make_recorded.py --tasks sentiment --seeds 1 $(ARGS)
	$(PY) data/make_no_penalty.py

notebooks: setup ## build the notebooks from notebooks/src
	$(PY) notebooks/build.py build

pins: setup-dev ## take the newest versions into constraints.txt, then run `make test`
	$(PY) -m pip install -q uv
	{ sed -n '/^#/p' constraints.txt; $(PY) -m uv pip compile -q pyproject.toml --all-extras --universal --upgrade \
		--python-version 3.11 --fork-strategy fewest --no-annotate --no-header | grep -vE '^(nvidia|cuda|triton)|== .emscripten'; \
	} > .venv/pins.txt
	mv .venv/pins.txt constraints.txt

clean: ## remove .venv and caches (labels and runs stay)
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
