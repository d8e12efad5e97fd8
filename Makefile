# Everything is installed into .venv; a fresh machine needs Python 3.11, 3.12 or 3.13 (with venv) and nothing else.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	&& echo $$p && break; done)
BIN := .venv/bin
OUT ?= runs/demo

.PHONY: install demo need-data demo-network docs notebooks images test test-all test-fast test-corpus test-latest dist chaos lint format clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one or call make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --config-settings editable_mode=compat -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/seqdance demo --out $(OUT)

docs: install  # the folder site; fails on any warning
	$(BIN)/python -m pip install --quiet -c constraints.txt --config-settings editable_mode=compat -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

notebooks: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebook

images: install
	$(BIN)/python image/draw.py
	$(BIN)/python image/draw_results.py
	$(BIN)/python image/draw_held_out.py

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not long"

test-all: install  # also every command of the documentation, and the wheel in an environment of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not long"

test-corpus: install
	$(BIN)/python -m pip install --quiet -c constraints.txt --config-settings editable_mode=compat -e '.[dev,corpus]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/data_prepare/corpus.py

need-data:
	@test -n "$(DATA)" || { echo "error: give the folder of structures and simulations: make demo-network DATA=FOLDER" >&2; exit 2; }

demo-network: need-data install  # trains the network `demo`: less than three hours on two cores
	$(BIN)/python demo_network/make_network.py --data $(DATA) --install

test-latest:  # the newest versions of all dependencies, in an environment of its own
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager pip -e '.[dev]'
	.venv-latest/bin/python -m pip list
	OMP_NUM_THREADS=1 .venv-latest/bin/python -m pytest -n 2 --dist loadgroup -m "not slow and not long"

dist: install  # wheel and source distribution
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .

chaos: install  # 31,000 damaged files, 20 kills of each command, all scenarios
	export OMP_NUM_THREADS=1; $(BIN)/python tests/chaos/fuzz.py --rounds 440 --jobs 2; fuzzed=$$?; \
		$(BIN)/python tests/chaos/kills.py --jobs 2 && exit $$fuzzed

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-latest dist build site runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
