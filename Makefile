# make pretrain | test | bench | lint | wheel: each sets up what it needs, in .venv, from a fresh machine with
# Python >= 3.10, g++ and make. PYTHON=python3.12 chooses another interpreter, MAX_JOBS=1 a gentler build.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
RECIPE ?= graphgpt
ARGS ?=

PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
PY := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python
NATIVE_SOURCES := setup.py $(shell find csrc -type f)

.PHONY: pretrain test bench lint wheel develop clean

pretrain: $(VENV)/.pretrain develop
	$(PY) -m sslkernels.pretrain $(RECIPE) $(ARGS)

test: $(VENV)/.test develop
	$(PY) -m pytest python_tests -n auto $(ARGS)

bench: $(VENV)/.test develop
	$(PY) -m benchmarks $(ARGS)

lint: $(VENV)/.test $(VENV)/.lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	$(PY) -m mypy

wheel: $(VENV)/.torch
	$(PY) -m pip wheel --no-build-isolation --no-deps -w dist .

develop: $(VENV)/.native

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
