# Everything runs in .venv, which the first target that needs it creates.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
SHELL := bash
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-rust test-python lint lint-workflows format fuzz mutants audit advisories bench bench-save instructions instructions-change docs crate wheel sdist check-wheel clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.deps: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "prefixsim needs Python 3.11 or newer: make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/.built: $(VENV)/.deps $(RUST_SOURCES)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

demo: $(VENV)/.built ## the main job on embedded sample chats: traces, replay, charts in demo-output/
	$(BIN)/prefixsim demo --output-dir demo-output

test: test-rust test-python ## every test, Rust and Python

test-all: test-rust $(VENV)/.built ## every test, the long forms of those that kill commands at random, a cluster
	$(BIN)/python -m pip install --quiet --editable ".[ray]"
	PREFIXSIM_CLUSTER=1 PREFIXSIM_KILLS=32 PREFIXSIM_ATTACK=600:2 $(BIN)/python -m pytest -q -n auto --doctest-modules tests python/prefixsim

test-rust:
	cargo test --quiet

test-python: $(VENV)/.built
	$(BIN)/python -m pytest -q -n auto --doctest-modules tests python/prefixsim

lint: $(VENV)/.built ## formatting, clippy, ruff, mypy, imports, stubs
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo clippy --all-targets --features python --quiet -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest prefixsim._core

format: $(VENV)/.deps ## rewrite sources in the house style
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

TIME ?= 60
fuzz: $(VENV)/.built ## TIME=60 seconds for each fuzz target (installs cargo-fuzz if it is missing)
	tools/fuzz.sh $(TIME) $(BIN)/python

SHARD ?= 0/50
SAMPLE ?= 60
mutants: $(VENV)/.built ## mutation tests of a sample, hours: SHARD=0/50 of the core, SAMPLE=60 of Python's
	command -v cargo-mutants > /dev/null || cargo install --locked cargo-mutants
	PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 PROPTEST_MAX_SHRINK_ITERS=0 \
	  cargo mutants -j1 --output target --sharding round-robin --shard $(SHARD) || { s=$$?; [ $$s = 2 ] || [ $$s = 3 ]; }
	$(BIN)/python -m pip install --quiet cosmic-ray
	$(BIN)/python tools/python_mutants.py $(SAMPLE)

audit: ## licences, duplicates and sources of dependencies (installs cargo-deny)
	command -v cargo-deny > /dev/null || cargo install --locked cargo-deny
	cargo deny --offline check licenses bans sources

advisories: audit $(VENV)/.deps ## known weaknesses of dependencies: asks databases on the network (installs pip-audit)
	cargo deny check advisories
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --skip-editable

BENCHMARK := $(BIN)/python -m pytest benches -q --benchmark-columns=min,median,rounds --benchmark-storage=benches/history
bench: $(VENV)/.built ## speed and memory, with baselines in the same run, and beside those of `make bench-save`
	$(BENCHMARK) $(if $(wildcard benches/history/*/*.json),--benchmark-compare)

bench-save: $(VENV)/.built ## the same, kept in benches/history: what `make bench` compares with
	$(BENCHMARK) --benchmark-autosave

COUNTING ?=
instructions: $(VENV)/.built ## instructions of whole commands, 3 % over what COUNTING=--save kept allowed (needs valgrind)
	$(BIN)/python -m benches.instructions $(COUNTING)

BASE ?= HEAD^1
instructions-change: ## the same against another commit, counted here: BASE=HEAD^1
	command -v valgrind > /dev/null || sudo apt-get install --yes valgrind
	mkdir -p target
	git checkout --quiet $(BASE)
	$(MAKE) instructions COUNTING="--json target/instructions-before.json"
	git checkout --quiet -
	$(MAKE) instructions COUNTING="--against target/instructions-before.json"

docs: $(VENV)/.built ## the documentation's pages in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint-workflows: $(VENV)/.deps ## the definitions of continuous integration
	$(BIN)/actionlint

crate: ## the Rust crate: its files, a build of exactly those, its documentation
	cargo package --list --allow-dirty
	cargo package --quiet --allow-dirty
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

# On Linux the wheel is linked against glibc 2.17 (by Zig) and named for it, whatever runs here.
$(VENV)/.build: $(VENV)/.deps
	$(BIN)/python -m pip install --quiet --group build
	touch $@

ifeq ($(shell uname -s),Linux)
OLDEST := --zig --compatibility manylinux2014
endif

wheel: $(VENV)/.build ## an abi3 wheel in dist/ for Python >= 3.11
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release --locked $(OLDEST) --out dist

sdist: $(VENV)/.build ## a source distribution in dist/
	$(BIN)/maturin sdist --out dist

check-wheel: ## install the wheel in dist/ in a fresh environment, run the quick start and the demo
	$(PYTHON) tools/check_wheel.py dist/*.whl

clean: ## remove what the targets above made
	rm -rf $(VENV) target dist demo-output site
