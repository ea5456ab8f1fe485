# Everything a contributor types. `make` alone lists it.

PYTHON ?= python3
SEEDS ?= 0

BIN := .venv/bin
READY := .venv/.ready
NATIVE := model/ecc_model/native
SANITIZED := -g -O1 -std=c11 -Wall -Wextra -Wconversion -Werror -pthread -fsanitize=address,undefined -fno-sanitize-recover=all
RACES := -g -O1 -std=c11 -pthread -fsanitize=thread
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-train example test test-slow test-native test-core test-arm64 wheels check format reference results clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=$(PYTHON) makes .venv, and is what test-core tests; SEEDS="0 1 2" is for demo-train"

# torch first and alone: whatever asks for torch later finds the pinned one installed
$(READY): pyproject.toml constraints.txt setup.py $(wildcard $(NATIVE)/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) torch
	$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(READY) ## The whole loop on photographs, with the models of examples/; report in runs/demo
	$(BIN)/ecc-tools demo --out runs/demo

demo-train: $(READY) ## The same on handwritten digits, from training on; report in runs/digits
	$(BIN)/ecc-tools demo-train --out runs/digits $(foreach seed,$(SEEDS),--seed $(seed))

example: $(READY) ## A robot's loop on the models of examples/
	$(BIN)/python examples/01_robot_loop.py --frames 50

test: $(READY) ## All tests but the slow ones
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(READY) ## The tests that take minutes
	$(BIN)/python -m pytest -m slow

test-native: ## Random input to the C library, under sanitizers; with all inputs multiplied; for races between threads
	rm -rf build/native && mkdir -p build/native
	set -e; for switches in "" "-DFINDING=1e30 -DDENSE_WIDTH=1"; do \
	  (cd build/native && $(CC) $(SANITIZED) $$switches -c $(abspath $(wildcard $(NATIVE)/*.c))); \
	  for driver in $(wildcard tests/native/*.c); do \
	    $(CC) $(SANITIZED) -I$(NATIVE) build/native/*.o $$driver -o build/native/driver; \
	    build/native/driver; \
	  done; \
	done
	cd build/native && $(CC) $(RACES) -DROUNDS=1000 -I$(abspath $(NATIVE)) $(abspath $(wildcard $(NATIVE)/*.c) tests/native/fuzz_events.c) -o races && ./races

check: $(READY) ## Lint, format, types, and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --level error
	$(BIN)/python -m pytest -q tests/test_house.py

format: $(READY) ## Rewrite the code the way `check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(READY) ## Write docs/reference.md anew from the docstrings
	$(BIN)/python docs/make_reference.py

results: $(READY) ## Write docs/results.md anew from the tables in docs/results
	$(BIN)/python -m ecc_tools.results

test-core: ## What a device runs, on PYTHON and without torch
	$(PYTHON) -m venv --clear build/core
	build/core/bin/python $(PIP_INSTALL) -e '.[broker,images,mcap,video]' pytest pytest-timeout hypothesis
	build/core/bin/python -m pytest -m 'not slow'

test-arm64: $(READY) ## The engine's tests on 64-bit Arm, under qemu-user
	PYTHON=$(BIN)/python .ci/arm64

wheels: $(READY) ## Wheels for x86-64 and aarch64, in dist/
	PYTHON=$(BIN)/python .ci/wheels

clean: ## Remove caches and build products; .venv and runs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
