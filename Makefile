# diffgeo: everything a newcomer types. `make` alone prints this list.
PYTHON ?= python3
VENV   := .venv
RUN    := OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=10000 $(VENV)/bin
STAMP  := $(VENV)/.installed
SITE   := $(VENV)/.installed-docs
# one process a core, one thread each; a file's tests stay together, for what they share
SPREAD := -n auto --dist loadfile --no-loadscope-reorder
# what an interpreter has compiled the next one reads, whatever the surroundings say: the tests start many
TESTS  := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN)/python -m pytest $(SPREAD)
CODE   := diffgeo tests scripts benchmarks examples/plugin examples/script.py

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-slow chaos bench lint clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# One pip call resolves torch together with everything that depends on it. What is imported is
# compiled then: to compile all of torch beforehand takes a minute.
$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## create .venv and install diffgeo with its test tools

demo: $(STAMP)  ## train a CEM on the curve and show it beside the exact denoiser
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/demo

# what the site is built with is installed when it is first built
$(SITE): $(STAMP)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(SITE)  ## the documentation, into site/: open site/index.html
	$(RUN)/mkdocs build --strict

test: $(STAMP)  ## the tests (minutes)
	$(TESTS)

test-slow: $(STAMP)  ## all tests, the long ones too
	$(TESTS) -m 'slow or not slow'

chaos: $(STAMP)  ## kills, faults, mistakes and strangers, all of them (part of test-slow)
	$(TESTS) -m 'slow or not slow' tests/chaos

bench: $(STAMP)  ## speed against plain baselines; writes benchmarks/results/
	$(RUN)/python -m benchmarks

lint: $(STAMP)  ## style, layout, unused code, types
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/mypy

clean:  ## remove the environment, the site and caches (outputs stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache site
