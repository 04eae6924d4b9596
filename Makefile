# The environment in .venv is set up for the first target that needs it, and again if its requirements have changed.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The first of these interpreters that is installed and has a supported version; override with make PYTHON=...
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: help demo test test-slow test-long test-runtime test-runtime-slow lint format docs clean

help:
	@echo "make demo       train a binary network on handwritten digits, convert, verify and time it (a few minutes)"
	@echo "make test       lint, formats, types and the tests"
	@echo "make test-slow  the tests that take more than half a minute each"
	@echo "make test-long  the tests that take minutes, often in separate processes; run them before a release"
	@echo "make test-runtime  build export/runtime and run its tests"
	@echo "make test-runtime-slow  the tests of export/runtime that take more than half a minute each"
	@echo "make docs       build the documentation site into site/"
	@echo "make format     format the code"
	@echo "make clean      remove the environment and what the commands have written"

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "r2b_zoo needs Python 3.10, 3.11 or 3.12: install one, or name it with make PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON); TensorFlow is a large download, this happens once."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

RUNTIME := $(VENV)/.runtime
NATIVE_SOURCES := $(shell find export/runtime/native export/web/native -name '*.cc' -o -name '*.h' -o -name '*.inl') \
	export/runtime/build_native.py
RUNTIME_SOURCES := $(NATIVE_SOURCES) $(shell find export/runtime/src -name '*.py') \
	$(wildcard export/runtime/*.py export/runtime/pyproject.toml export/web/*.js export/web/*.ts export/web/*.html)

# The engine for browsers is compiled here with the environment's ziglang, because pip's isolated build does not see
# that package.
WASM := export/web/r2b.wasm
$(WASM): $(INSTALLED) $(NATIVE_SOURCES) export/web/build_web.py
	@echo "Compiling the engine for browsers."
	$(BIN)/python export/web/build_web.py

$(RUNTIME): $(INSTALLED) $(RUNTIME_SOURCES) $(WASM)
	@echo "Compiling the runtime."
	R2B_RUNTIME_WASM=$(CURDIR)/$(WASM) $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --force-reinstall --no-deps ./export/runtime
	@touch $@

demo: $(RUNTIME)
	$(BIN)/r2b demo

# With --max-worker-restart 0, a test process that dies ends the suite, and pytest names the test that it was running.
# The timeout is given here because the runtime's own pytest configuration has none.
PYTEST_OPTIONS := --numprocesses 2 --max-worker-restart 0
RUNTIME_OPTIONS := $(PYTEST_OPTIONS) --dist loadfile --timeout 1200 --timeout-method thread

test: lint $(RUNTIME)
	$(BIN)/pytest -m "not slow and not long" $(PYTEST_OPTIONS)

test-slow: $(RUNTIME)
	$(BIN)/pytest -m "slow and not long" $(PYTEST_OPTIONS)

test-long: $(RUNTIME)
	$(BIN)/pytest -m long $(PYTEST_OPTIONS)
	cd export/runtime/tests && ../../../$(BIN)/pytest -m long $(RUNTIME_OPTIONS)
	cd export/android/tests && ../../../$(BIN)/pytest -m long
	cd export/microcontroller/tests && ../../../$(BIN)/pytest -m long

test-runtime: $(RUNTIME)
	cd export/runtime/tests && ../../../$(BIN)/pytest -m "not slow and not long" $(RUNTIME_OPTIONS)
	cd export/android/tests && ../../../$(BIN)/pytest -m "not slow"
	cd export/microcontroller/tests && ../../../$(BIN)/pytest -m "not slow"

test-runtime-slow: $(RUNTIME)
	cd export/runtime/tests && ../../../$(BIN)/pytest -m slow $(RUNTIME_OPTIONS)
	cd export/android/tests && ../../../$(BIN)/pytest -m "slow and not long"
	cd export/microcontroller/tests && ../../../$(BIN)/pytest -m "slow and not long"

CPP := $(shell find benchmarks export/*/native export/*/tests/native -name '*.cc' -o -name '*.c' -o -name '*.h' -o -name '*.inl')

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lizard -C 15 -w r2b_zoo benchmarks tests docs notebooks export/runtime/native export/runtime/src export/runtime/tests export/android export/web export/microcontroller -x "*/build/*"
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(WASM) build dist runs site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
