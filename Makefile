# make pretrain | test | bench | lint | wheel, and for the native code emulation | sanitize | kernels: each sets up
# what it needs, in .venv, from a fresh machine with Python >= 3.10, g++ and make. PYTHON=python3.12 chooses another
# interpreter, MAX_JOBS=1 a gentler build.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
RECIPE ?= graphgpt
ARGS ?=

PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
PY := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python
NATIVE_SOURCES := setup.py $(shell find csrc -type f)

.PHONY: pretrain test bench emulation mutations sanitize kernels lint wheel develop emulated clean

pretrain: $(VENV)/.pretrain develop
	$(PY) -m sslkernels.pretrain $(RECIPE) $(ARGS)

# The trainer's tests fork their own process, which must not have started torch's threads: they run by themselves.
test: $(VENV)/.test develop emulated
	$(PY) -m pytest python_tests -n auto --ignore=python_tests/pretrain $(ARGS)
	$(PY) -m pytest python_tests/pretrain -n auto $(ARGS)

bench: $(VENV)/.test develop emulated
	$(PY) -m benchmarks $(ARGS)

# Every CUDA kernel on the emulated GPU under AddressSanitizer, UBSan and ThreadSanitizer.
emulation: $(VENV)/.test develop
	$(PY) python_tests/sanitized.py emulated address,undefined thread

# The same, and then without each barrier and bound check in turn: a test must notice each.
mutations: $(VENV)/.test develop
	$(PY) python_tests/mutations.py $(ARGS)

# The CPU kernels' lines and tests under AddressSanitizer and UBSan, then which of their lines no test runs.
sanitize: $(VENV)/.test develop
	$(PY) python_tests/sanitized.py cpu address,undefined
	$(PY) python_tests/coverage.py $(ARGS)

# Registers, stack, spills and shared memory of every GPU kernel, for every architecture.
kernels: $(VENV)/.test develop
	$(PY) benchmarks/kernels.py $(ARGS)

lint: $(VENV)/.test $(VENV)/.lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	$(PY) -m mypy

wheel: $(VENV)/.torch
	$(PY) -m pip wheel --no-build-isolation --no-deps -w dist .

develop: $(VENV)/.native

# The CUDA kernels as C++, which tests run on the CPU.
emulated: $(VENV)/.torch
	$(PY) python_tests/native_builds.py emulated

clean:
	rm -rf build dist $(VENV)/.native sslkernels/*.so

# -- set-up: one stamp a step ------------------------------------------------------------------------------

$(VENV)/.torch:
	@echo "Setting up $(VENV): torch $(TORCH) first. Where pip finds no CPU wheel of it, it takes the CUDA build"
	@echo "(several GB): PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can point pip at CPU wheels."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install torch==$(TORCH)
	$(PIP) install 'setuptools>=77' wheel 'pybind11>=2.13' ninja 'numpy>=1.26'
	@touch $@

# The Python files alone, as a link to this checkout; the native parts are built in place, file by file.
$(VENV)/.linked: $(VENV)/.torch pyproject.toml
	SSLKERNELS_NATIVE=0 $(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.native: $(VENV)/.linked $(NATIVE_SOURCES)
	$(PY) setup.py -q build_ext --inplace
	@touch $@

# $(call install_extras,names): the packages of these extras, read from the checkout's own metadata.
define install_extras
	SSLKERNELS_NATIVE=0 $(PIP) install --no-build-isolation -e '.[$(1)]'
	@touch $@
endef

$(VENV)/.pretrain: $(VENV)/.linked
	$(call install_extras,pretrain)

$(VENV)/.test: $(VENV)/.linked
	$(call install_extras,test$(comma)peers)

$(VENV)/.lint: $(VENV)/.linked
	$(call install_extras,lint)

comma := ,
