# Targets for working on fastconv; `make help` lists them.  Choose another interpreter with `make test PYTHON=...`.
PYTHON ?= python3

.PHONY: help build test lint format typecheck sanitize sdist wheel bench bench-history demo clean

help:  ## list the targets
	@grep -E '^[a-z-]+: .*## |^[a-z-]+:  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build:  ## compile the extensions in place (needs numpy, cython and setuptools)
	$(PYTHON) setup.py -q build_ext --inplace

test: build  ## run the tests against the source tree
	$(PYTHON) -m pytest

lint:  ## ruff: rules and format, changing nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## ruff: mend what can be mended
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

typecheck:  ## mypy on the package
	$(PYTHON) -m mypy

sanitize:  ## kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer (Linux, gcc)
	.ci/sanitize $(PYTHON)

sdist:  ## source distribution in dist/
	$(PYTHON) -m build --sdist

wheel:  ## one wheel in dist/
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .

bench: build  ## compare with the other libraries that are installed, write the README's table (extra `bench`)
	$(PYTHON) -m fastconv bench
	$(PYTHON) -m bench.readme_table

bench-history: build  ## keep this commit's times in .benchmarks/ and compare them with the last ones
	$(PYTHON) -m pytest -W default bench/bench_history.py --benchmark-autosave --benchmark-compare \
	    --benchmark-max-time=0.1 --benchmark-columns=min,median,iqr

demo: build  ## train the demo net and write its pictures to fastconv-demo/
	$(PYTHON) -m fastconv demo

clean:  ## remove everything that is built
	rm -rf build dist *.egg-info fastconv/*.so fastconv/*.pyd .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
