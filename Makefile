# make demo | test | setup | lint | release | clean      (PYTHON=/path/to/python3.11 chooses the interpreter)
# Every path is relative and every tool runs as `.venv/bin/python -m ...`: the folder may have any name.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test test-all test-runtimes test-aarch64 test-install demo bench lint format completions docs release \
	clean pretrain-pack FORCE

export TF_CPP_MIN_LOG_LEVEL := 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PYTHON ?= python3.11
MIN_FREE_GB ?= 5
# Files in order (tests/conftest.py), so that the long ones are not the last.
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder
PY := .venv/bin/python
EXTRAS := train,device,device-legacy,micro,mqtt,serve,video,dev

help:
	@echo "make demo    train on real digits, convert, learn on the device, print the table"
	@echo "make test    lint, type checks, import contracts, the tests that are quick: at most 5 minutes on two cores"
	@echo "make test-all   every test, and the notebooks"
	@echo "make test-runtimes   a bundle under every Python from 3.9 to 3.13 found here, both runtimes, with the oldest and"
	@echo "                     the newest packages allowed (part of make test-all)"
	@echo "make test-aarch64    a bundle on emulated Cortex-A53 and A72 (part of make test-all)"
	@echo "make test-install   the wheel in a clean environment of every Python found (minutes, package index)"
	@echo "make bench   how fast, beside PyTorch and ONNX Runtime and against what was aimed at: at most 30 minutes on two"
	@echo "             idle cores, with its own environment under build/; BENCH='--only ROW' for some rows"
	@echo "make setup   only make .venv with everything installed (the two above do it too)"
	@echo "make lint    only ruff, mypy and the import contracts;  make format: rewrite the sources"
	@echo "make completions   write the completion files of both commands again, for bash, zsh and fish"
	@echo "make docs    the documentation site in build/site; its tools are installed into .venv on first use"
	@echo "make release   sdist, wheel and release notes of the last commit in dist/, checked; nothing is uploaded"
	@echo "make pretrain-pack DATA=npz:FILE TEACHER=WEIGHTS OUT=pack.tgz   a pretraining for somebody's GPU, in one archive"
	@echo "make clean   remove .venv, caches and what make demo wrote"

# --- installation: the stamp holds the folder's path, so that a moved checkout is installed again -------------------
COMMA := ,
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-for-demo
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
ifneq ($(shell cat $(DEMO_STAMP) 2>/dev/null),$(CURDIR))
$(DEMO_STAMP): FORCE
endif
endif

setup: $(STAMP)

# CPython 3.11 with venv, the first of these that is one; prints nothing otherwise.
FIND_PYTHON = for python in "$(PYTHON)" python3.11 python3 python; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython")' \
	>/dev/null 2>&1 && echo "$$python" && break; done
PY_VERSION = $(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null

# $(1): extras, $(2): the stamp.
define INSTALL
	@set -e; \
	version=$$($(PY_VERSION)) || version=none; \
	if [ "$$version" != 3.11 ] && [ "$$version" != none ]; then \
		echo "error: .venv holds Python $$version, CPython 3.11 is needed; remove .venv and run make again" >&2; exit 1; fi; \
	if [ "$$version" = none ]; then \
		python=$$($(FIND_PYTHON)) || true; \
		if [ -z "$$python" ]; then \
			echo "error: no CPython 3.11 with venv found (Debian, Ubuntu: apt install python3.11 python3.11-venv); install it or run make with PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
		"$$python" -c 'import shutil, sys; free, need = shutil.disk_usage(".").free / 1e9, float(sys.argv[1]); sys.exit( \
			f"error: {free:.1f} GB of disk space free here, {need:g} GB needed; free some and run make again" if free < need else 0)' "$(MIN_FREE_GB)"; \
		echo "Making .venv with $$python"; \
		"$$python" -m venv --clear .venv; \
	fi; \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip --default-pip >/dev/null
	@# pip writes INSTALLER last and takes a package without it, left by an interrupted run, for installed: forget those.
	@find .venv/lib/python3.11/site-packages -maxdepth 1 -name '*.dist-info' ! -exec test -e '{}/INSTALLER' ';' -exec rm -rf '{}' +
	@echo "Installing keras-cbpnet[$(1)] into .venv (some minutes on first use, about 3 GB)"
	@$(PY) -m pip install -qq -e ".[$(1)]" \
		|| { echo "error: installation failed, see above; run make again to continue" >&2; exit 1; }
	@pwd -P > $(2)
endef

$(STAMP): pyproject.toml Makefile
	$(call INSTALL,$(EXTRAS),$@)

# What `make demo` needs alone, where nothing is installed yet.
$(DEMO_STAMP): pyproject.toml Makefile
	$(call INSTALL,train$(COMMA)device$(COMMA)device-legacy,$@)

# --- checks ---------------------------------------------------------------------------------------------------------
# Two test processes on two cores: more threads in NumPy's small products would only wait for each other.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export OPENBLAS_NUM_THREADS = 1
IMPORT_CONTRACTS := $(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
define LINT
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(IMPORT_CONTRACTS)
endef

lint: $(STAMP)
	$(LINT)

format: $(STAMP)
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

test: $(STAMP)
	$(LINT)
	$(PY) -m pytest $(PYTEST_FLAGS) -m "not slow" tests

test-all: $(STAMP)
	TEST_RUNTIMES=1 $(PY) -m pytest $(PYTEST_FLAGS) --nbmake notebooks tests

# Environments and the emulated system are made once, under build/; what cannot be had is skipped with the reason.
test-runtimes: $(STAMP)
	TEST_RUNTIMES=1 $(PY) -m pytest -v -k "this_environment or other_pythons" tests/pipeline/test_runtimes.py

test-aarch64: $(STAMP)
	$(PY) -m pytest -v -k aarch64 tests/pipeline/test_runtimes.py
test-install: $(STAMP)
	TEST_INSTALL=1 $(PY) -m pytest tests/firmware_host/test_install.py

completions: $(STAMP)
	@$(PY) -m completions

# The extra `docs` is installed when the site is first built.
DOCS_STAMP := .venv/.docs
$(DOCS_STAMP): $(STAMP)
	@$(PY) -m pip install -qq -e ".[docs]"
	@touch $@

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(DOCS_STAMP)
	@$(PY) -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

release: $(STAMP)
	@$(PY) .ci/release.py

# PyTorch and ONNX Runtime lie in an environment apart; BENCH are more options of `python -m benchmarks.speed`, such as
# "--only growth" or "--photos FOLDER".
bench: $(STAMP)
	@$(PY) -m benchmarks.speed --peers build/bench-peers --work build/bench --json benchmarks/results/speed.json $(BENCH)
	@$(PY) -m benchmarks.page

demo: $(if $(filter $(CURDIR),$(shell cat $(STAMP) 2>/dev/null)),$(STAMP),$(DEMO_STAMP))
	@$(PY) -m benchmarks.digits --demo

OUT ?= pack.tgz
pretrain-pack: $(STAMP)
	@$(PY) -m benchmarks.pretrain_pack --data "$(DATA)" --teacher-weights "$(TEACHER)" --output "$(OUT)"

clean:
	rm -rf .venv demo_output build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
