# diffgeo: everything a newcomer types. `make` alone prints this list.
PYTHON ?= python3
VENV   := .venv
RUN    := OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=10000 $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench lint clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# One pip call resolves torch together with everything that depends on it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## create .venv and install diffgeo with its test tools

demo: $(STAMP)  ## train a CEM on the curve and show it beside the exact denoiser
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/demo

test: $(STAMP)  ## the tests (minutes)
	$(RUN)/python -m pytest

test-slow: $(STAMP)  ## all tests, the long ones too
	$(RUN)/python -m pytest -m 'slow or not slow'

bench: $(STAMP)  ## speed against plain baselines; writes benchmarks/results/
	$(RUN)/python -m benchmarks

lint: $(STAMP)  ## style and unused code
	$(RUN)/ruff check diffgeo tests scripts benchmarks

clean:  ## remove the environment and caches (outputs stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache
