# `make book` and `make test` do everything, set-up included. They need Python 3.11 or newer, and make.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# One thread per process: the work is spread over processes, and results do not depend on the machine.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

.PHONY: book html test lab chapters lint pins benchmarks tasks clean

book: $(READY)       ## execute every chapter afresh and build the pages, warnings as errors
	$(BIN)/python tools/book.py --execute

html: $(READY)       ## build the pages from the outputs stored in the chapters
	$(BIN)/python tools/book.py

test: $(READY)       ## the library, then every chapter re-run and compared, then the pages in a browser
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest tests --ignore tests/test_pages.py -n auto --maxprocesses 4 -q
	$(BIN)/python tools/rerun.py
	$(BIN)/python -m pytest tests/test_pages.py -q -rs

lab: $(READY)        ## open the chapters in JupyterLab
	$(BIN)/python -m jupyterlab chapters

chapters: $(READY)   ## authors: execute the chapters in place and store their outputs
	$(BIN)/python tools/book.py --in-place $(ONLY)

benchmarks: $(READY) ## speed, as ratios within one run
	for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

tasks: $(READY)      ## simple and large tasks once more, reduced: from the data to the number that decides, minutes
	$(BIN)/python experiments/real_tasks.py reduced 2

pins: $(READY)       ## compile requirements.in into requirements.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python tools/pin.py

clean:
	rm -rf _build .venv

$(READY): requirements.txt lib/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=python3.11 ..." % v[:2])'
	@echo "Setting up .venv (about a minute, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $(READY)
