PYTHON ?= python3
SOURCES := $(shell git ls-files 'csrc/*.c' 'csrc/*.h' 'csrc/*.cu' 'tests/cuda_emulator/*.[ch]*')

.PHONY: help build debug sanitize test size bench format lint stub reliability gpu-check

help:           ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST)

build:          ## compile the engine into the checkout, only what changed
	$(PYTHON) setup.py -q build_ext --inplace

debug:          ## the same with debug symbols; warnings are errors
	DEPTHSTYLE_DEBUG=1 $(PYTHON) setup.py -q build_ext --inplace

sanitize:       ## run the engine's tests on a copy built with AddressSanitizer and UBSan
	PYTHON=$(PYTHON) .ci/sanitize

test: build     ## all tests
	$(PYTHON) -m pytest

size: build     ## what the budgets are about: files, functions, comments, the module
	$(PYTHON) tests/c_sources.py
	@du -h depthstyle/_core*.so

bench: build    ## the main benchmark beside PyTorch
	$(PYTHON) bench/bench_methods.py gatys --size 512

gpu-check:      ## on a machine with an NVIDIA GPU: build, test, watch and measure; half an hour
	PYTHON=$(PYTHON) .ci/gpu

format:         ## format C and Python
	clang-format -i $(SOURCES)
	ruff check --fix .
	ruff format .

lint:           ## what CI asks of the sources
	clang-format --dry-run -Werror $(SOURCES)
	ruff check .
	ruff format --check .

stub: build     ## write depthstyle/_core.pyi from csrc/core/ops.def
	PYTHONPATH=. $(PYTHON) csrc/py/make_stub.py

reliability: export PYTHONPATH := $(CURDIR)
reliability: build  ## all campaigns of docs/reliability.md in full: kills, full disks, forks ...; hours
	@for script in saves runs resources pictures bombs parameters; do $(PYTHON) tests/reliability/$$script.py || exit 1; done
	@for script in weights images; do $(PYTHON) tests/fuzz/fuzz_$$script.py --count 1000000 || exit 1; done
