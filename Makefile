# What people, README and CI run. Needs Python >= 3.11, a Rust toolchain and make; everything else is installed into .venv.
#
#   make run      build, start the gateway with examples/quickstart.yml before a demo upstream
#   make build    leave .venv/bin/headgate with a release engine
#   make test     Rust and Python tests        make check   formatting, lint, types, contracts
#   make bench    figures against nginx        make docs    regenerate generated pages
#   make wheel    an installable wheel in dist/              make clean   remove what was built
#   make schemathesis   20,000 requests made from the OpenAPI document against the Admin API
#   make autobahn   the whole Autobahn TestSuite against a WebSocket service (needs a Python 2.7)
#   make plugin-example   from an empty folder to a plugin's wheel in a running gateway

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo

# A continuous-integration machine may keep compiled crates outside the clone.
ifndef CARGO_TARGET_DIR
ifeq ($(CI),true)
export CARGO_TARGET_DIR := $(HOME)/.cache/headgate/target
endif
endif
export CARGO_TERM_PROGRESS_WHEN ?= never
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# PyO3 must meet the interpreter of the virtual environment, also when none is activated.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX

# The order of tests is random from commit to commit, and the same for everybody who tests this one.
TEST_SEED ?= $(shell printf '%d' 0x$$(git rev-parse --short=7 HEAD 2>/dev/null || echo 1))

# Test files run beside each other: most of their time is waiting for processes.
TEST_PROCESSES ?= 2

RUST_SOURCES := $(shell find crates -type f \( -name '*.rs' -o -name '*.toml' \) 2>/dev/null) $(wildcard Cargo.toml Cargo.lock rust-toolchain.toml)

.PHONY: run build test test-rust test-python check check-rust check-python bench docs wheel plugin-example schemathesis autobahn clean
.DELETE_ON_ERROR:

run: build
	@exec $(BIN)/python examples/quickstart.py

build: $(VENV)/.stamp-engine

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headgate needs Python >= 3.11; $(PYTHON) is `$(PYTHON) --version`. Give another: make PYTHON=python3.12" >&2; exit 1; }
	@command -v $(CARGO) >/dev/null || \
		{ echo "headgate needs a Rust toolchain to build its engine: https://rustup.rs" >&2; exit 1; }
	@[ -x $(BIN)/python ] || { echo "==> making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@touch $@

$(VENV)/.stamp-runtime: $(VENV)/.stamp-venv pyproject.toml constraints.txt tools/dependencies.py
	@echo "==> installing Python packages (up to a minute the first time)"
	@$(BIN)/python tools/dependencies.py | $(BIN)/pip install -q -c constraints.txt -r /dev/stdin 'maturin>=1.7,<2'
	@touch $@

$(VENV)/.stamp-development: $(VENV)/.stamp-runtime
	@echo "==> installing what tests and checks need"
	@$(BIN)/python tools/dependencies.py dev | $(BIN)/pip install -q -c constraints.txt -r /dev/stdin
	@touch $@

# The package itself: editable, so that only a change of Rust code costs a build.
$(VENV)/.stamp-engine: $(VENV)/.stamp-runtime $(RUST_SOURCES)
	@echo "==> compiling the engine (release; a few minutes the first time)"
	@if [ -x $(BIN)/headgate ] && [ $@ -nt $(VENV)/.stamp-runtime ]; then skip=--skip-install; fi; \
		PIP_QUIET=1 PIP_CONSTRAINT=constraints.txt $(BIN)/maturin develop --release $$skip
	@touch $@

test: test-rust test-python

test-rust: $(VENV)/.stamp-runtime
	@echo "==> testing the engine"
	@$(CARGO) test --quiet --workspace --exclude headgate-engine-py

test-python: build $(VENV)/.stamp-development
	@tools/debian_packages.sh nginx:nginx-light redis-server:redis-server openssl:openssl curl:curl socat:socat \
		$(if $(wildcard /usr/lib/postgresql/*/bin/initdb),,initdb:postgresql)
	@echo "==> testing the package, in the order of seed $(TEST_SEED)"
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --randomly-seed=$(TEST_SEED) $(PYTEST_ARGUMENTS)

schemathesis: build $(VENV)/.stamp-development
	@HEADGATE_SCHEMATHESIS_CALLS=20000 $(BIN)/python -m pytest -q -n0 tests/admin/test_openapi.py

check: check-python check-rust

check-python: $(VENV)/.stamp-development $(VENV)/.stamp-engine
	@echo "==> ruff"
	@$(BIN)/ruff format --check -q . || { echo "ruff format . would change the files above" >&2; $(BIN)/ruff format --diff -q . | head -n 40; exit 1; }
	@$(BIN)/ruff check -q .
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-cache --config pyproject.toml > $(VENV)/contracts.log || { cat $(VENV)/contracts.log; exit 1; }
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> the native module against its stub"
	@MYPYPATH=src $(BIN)/python -m mypy.stubtest headgate._engine --ignore-missing-stub
	@echo "==> generated documentation is current"
	@$(BIN)/python tools/generate_docs.py --check

check-rust: $(VENV)/.stamp-runtime
	@echo "==> rustfmt"
	@$(CARGO) fmt --all --check
	@echo "==> clippy"
	@$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then echo "==> cargo deny: NOT RUN, not installed (cargo install cargo-deny)"; \
		else echo "==> cargo deny: licences, bans, sources"; $(CARGO) deny --log-level error check licenses bans sources || exit 1; \
		if $(CARGO) deny --log-level off fetch db >/dev/null 2>&1; then echo "==> cargo deny: advisories"; \
			$(CARGO) deny --log-level error check --disable-fetch advisories; \
		else echo "==> cargo deny: advisories NOT CHECKED, their database cannot be fetched"; fi; fi

bench: build $(VENV)/.stamp-development
	@tools/debian_packages.sh nginx:nginx-light wrk:wrk h2load:nghttp2-client curl:curl \
		$(if $(wildcard /usr/lib/nginx/modules/ngx_stream_module.so),,ngx_stream_module.so:libnginx-mod-stream)
	@$(BIN)/python -m bench $(BENCH_ARGUMENTS)

autobahn: build $(VENV)/.stamp-development
	@HEADGATE_TEST_AUTOBAHN=all $(BIN)/python -m pytest -q -n0 tests/wire/test_autobahn.py

docs: $(VENV)/.stamp-engine
	@$(BIN)/python tools/generate_docs.py

wheel: $(VENV)/.stamp-runtime
	@echo "==> building a wheel"
	@$(BIN)/maturin build --release --quiet --out dist
	@ls -1 dist/*.whl

plugin-example: build $(VENV)/.stamp-development
	@$(BIN)/python examples/plugin_wheel.py

clean:
	rm -rf $(VENV) dist build .headgate bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis src/headgate/*.so
	$(CARGO) clean
