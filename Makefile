# Everything starts here: `make demo` and `make test` do all set-up on a fresh clone that has Python >= 3.10 with its
# headers, a C++ compiler and make.  Set-up goes to .venv/ and build/ and is not repeated while nothing changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv build demo test test-long lint format sass budgets sanitize bench bench-simulator gpu clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c .ci/constraints.txt
# The first Python that is new enough; `make PYTHON=...` names another.
PYTHON = $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { command -v $$p; break; }; done)
# Two tests at a time, PyTorch's own threads shared out among them; `make test WORKERS=8` where there are more cores.
WORKERS ?= 2
THREADS := $(shell echo $$(($$(nproc) / $(WORKERS) > 0 ? $$(nproc) / $(WORKERS) : 1)))
PYTEST := OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist worksteal

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What compiling needs; the CUDA compiler only where CUDA_HOME and PATH have none.
.venv/.tools: .ci/constraints.txt setup.py
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "no Python >= 3.10 on PATH: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || { echo "creating .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "installing build requirements (PyTorch alone is about 2 GB)"
	@$(PIP) -q setuptools wheel ninja pybind11 torch
	@compiler=$$($(BIN)/python -c "import setup; print(*setup.missing_compiler())"); \
	if [ -n "$$compiler" ]; then echo "no nvcc here: installing $$compiler"; $(PIP) -q $$compiler; fi
	@touch $@

build: .venv/.tools  ## compile what changed; RESNET_KERNELS_CUDA=0 builds the simulators only
	@$(BIN)/python setup.py -q build_ext --inplace

# The package itself, editable, with the tools for testing.
.venv/.installed: pyproject.toml .ci/constraints.txt | build
	@echo "installing resnet_kernels (editable) and what its tests need"
	@$(PIP) -q --no-build-isolation -e '.[dev]'
	@touch $@

venv: .venv/.installed  ## the virtual environment .venv, with pinned dependencies

demo: build .venv/.installed  ## run ResNet through our kernels on a photograph, compare, draw, write a report
	$(BIN)/resnet-kernels demo

test: build .venv/.installed  ## the whole suite except tests marked slow
	$(PYTEST) -q $(PARALLEL) -m "not slow" --durations 15

test-long: build .venv/.installed  ## everything, with 20,000 random problems for each fuzz test
	RESNET_KERNELS_FUZZ=20000 $(PYTEST) -q $(PARALLEL) --durations 25 --timeout 0

lint: build .venv/.installed  ## ruff, clang-format, mypy, layering, symbols, spills
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')
	$(BIN)/mypy
	$(PYTEST) -q tests/lint

format: .venv/.installed  ## ruff and clang-format, in place
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')

sass: build .venv/.installed  ## each kernel's registers, spills, shared memory and tensor-core instructions
	@$(BIN)/python -m tests.lint.machine_code

budgets: build .venv/.installed  ## write the kernels' budget anew: registers, shared memory, instructions
	@$(BIN)/python -m tests.lint.budgets

# The simulators with AddressSanitizer and UndefinedBehaviorSanitizer, beside the package, under the tests that
# reach all of the engine and every kernel.  PyTorch is not instrumented and keeps what it allocates: no leaks.
SANITIZED := build/sanitized
SANITIZE := RESNET_KERNELS_SANITIZE=address,undefined
sanitize: .venv/.installed  ## the simulator under AddressSanitizer and UndefinedBehaviorSanitizer
	RESNET_KERNELS_CUDA=0 $(SANITIZE) $(BIN)/python setup.py -q build --build-lib $(SANITIZED)/lib \
		--build-temp $(SANITIZED)/objects
	$(SANITIZE) PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib OMP_NUM_THREADS=1 \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/pytest -q --timeout 0 tests/simulator tests/kernels/test_exact.py

bench: build .venv/.installed  ## the quick benchmark suites, and their report: runs/bench/report.html
	$(BIN)/resnet-kernels bench all --quick --output runs/bench

bench-simulator: build .venv/.installed  ## the simulator's own speed on one core
	@$(BIN)/python benchmarks/simulator.py

# On a machine with a GPU: no set-up, whichever Python runs here, and _C.abi3.so as it was built anywhere.
gpu:  ## conformance, tests, compute-sanitizer, benchmarks, profiles on a GPU, resumable: runs/campaign
	@python=$(BIN)/python; $$python -c pass 2>/dev/null || python=python3; \
	$$python -m benchmarks.campaign --output runs/campaign

clean:  ## remove what was built (not .venv)
	rm -rf build dist *.egg-info resnet_kernels/*.so .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find resnet_kernels tests -name __pycache__ -type d -prune -exec rm -rf {} +
