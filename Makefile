# dnsvip: `make demo` shows the main job on real packets, `make test` passes every check.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROGRAMS := $(VENV)/.programs

unexport PYTHONDONTWRITEBYTECODE  # with byte code a start of dnsvip takes a third of the time

.PHONY: demo test lint bench packages clean

demo: packages $(PROGRAMS)  ## the whole chain in network namespaces; KEEP=1 leaves it running, ARGS=--json for machines
	@$(BIN)/dnsvip demo $(if $(KEEP),--keep) $(ARGS)

test: lint  ## every test (and lint), a process for each processor; ARGS goes to pytest
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: packages $(PROGRAMS)  ## ruff, strict mypy; the import layers are checked by tests/test_layers.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: packages $(PROGRAMS)  ## speed beside other servers, judged by its goals; ONLY=dns, codec, dispatcher or nodes; ARGS goes to that part
	@deploy/bench-packages.sh
	@$(BIN)/python -m tests.bench $(ONLY) $(ARGS)

packages:  ## Debian packages that demo and tests run; installed as root, else what is missing is named
	@deploy/debian-packages.sh

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --editable '.[dev]'
	@touch $@

$(PROGRAMS): $(READY) $(wildcard dnsvip/xdp/programs/*.[ch])  # the kernel's programs, compiled again where one has changed
	@$(BIN)/python -m dnsvip.xdp.build
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info dnsvip/xdp/programs/*.bpf.o .mypy_cache .ruff_cache .pytest_cache .hypothesis
