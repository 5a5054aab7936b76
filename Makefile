# Everything runs in .venv, which the first target that needs it creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python lint format bench wheel clean

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

test-rust:
	cargo test --quiet

test-python: $(VENV)/.built
	$(BIN)/python -m pytest -q

lint: $(VENV)/.built ## formatting, clippy, ruff, mypy, stubs
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo clippy --all-targets --features python --quiet -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest prefixsim._core

format: $(VENV)/.deps ## rewrite sources in the house style
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.built ## speed and memory, with baselines in the same run
	$(BIN)/python -m pytest benches -q --benchmark-columns=min,median,rounds

wheel: $(VENV)/.deps ## an abi3 wheel in dist/ for Python >= 3.11
	$(BIN)/maturin build --release --out dist

clean: ## remove what the targets above made
	rm -rf $(VENV) target dist demo-output
