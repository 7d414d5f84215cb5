# Every command works from a fresh clone, with no other before it: all depend on $(READY), which makes
# the virtual environment .venv from requirements.lock. Python 3.11 or newer is all that has to be there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
LOCAL := $(PY) -m tenantry_local
READY := .venv/.stamp
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11
PYTEST_ARGS ?=
WORKERS ?= 2
BENCH_ARGS ?=

.PHONY: help demo up down status logs test test-unit lint format crds bench kind kind-test kind-down lock binaries programs clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## start a cluster, apply examples/, show isolation and suspension (read this first)
	@$(LOCAL) demo

up: $(READY) ## start the one-machine cluster in the background, write .local/dev.env
	@$(LOCAL) up

down: $(READY) ## stop it; data stays for the next start
	@$(LOCAL) down

status: $(READY) ## what of it runs
	@$(LOCAL) status

logs: $(READY) ## the end of the operator's log (others: python -m tenantry_local logs --help)
	@$(LOCAL) logs operator

test: lint binaries programs ## everything: lint, then unit, integration, contract and end-to-end tests
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-unit: $(READY) ## the tests that need no server
	$(PY) -m pytest tests/unit $(PYTEST_ARGS)

lint: $(READY) ## ruff, mypy, import-linter, generated files current, helm lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -m tenantry_crds.generate --check
	"$$($(PY) -m tenantry_local.build helm)" lint --strict charts/tenantry

format: $(READY) ## ruff: mend what it can, and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

crds: $(READY) ## generate crds/*.yaml, the chart's CRDs and docs/reference/ from the models
	$(PY) -m tenantry_crds.generate

bench: binaries programs ## benchmarks against references in the same run; prints a table, writes JSON
	$(PY) -m benchmarks $(BENCH_ARGS)

kind: $(READY) ## with Docker: a kind cluster with the chart, a shared PostgreSQL and the examples
	@local/kind/kind.sh up

kind-test: $(READY) ## run the end-to-end tests there
	@local/kind/kind.sh test $(PYTEST_ARGS)

kind-down: ## remove that cluster
	@local/kind/kind.sh down

binaries: $(READY) ## build the Go programs (control plane, helm) unless they are cached
	@$(PY) -m tenantry_local.build all >/dev/null

programs: $(READY) ## install MariaDB and Redis for the node, when run as root on Debian or Ubuntu
	@$(PY) -m tenantry_local.programs

lock: $(READY) ## write the lock files anew from pyproject.toml (UPGRADE=1: newest versions)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	printf 'hatchling>=1.26\neditables>=0.5\n' | \
		$(COMPILE) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements.lock pyproject.toml -
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements-runtime.lock pyproject.toml

clean: ## stop the cluster, remove it with its data, and the caches of tools
	@if [ -x $(PY) ]; then $(LOCAL) clean; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

distclean: clean ## also remove what was built and installed: .local and .venv
	rm -rf .local .venv

# pip checks the hash of everything it installs; the project itself comes last, in place.
$(READY): requirements.lock pyproject.toml
	@python=""; \
	for candidate in .venv/bin/python $(PYTHONS); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Tenantry needs Python 3.11 or newer, and there is none on PATH ($$(python3 --version 2>&1))." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi; \
	if [ "$$python" != .venv/bin/python ]; then \
		rm -rf .venv; \
		"$$python" -m venv .venv || { \
			rm -rf .venv; \
			echo "$$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
			exit 1; \
		}; \
	fi
	@echo "installing what requirements.lock pins into .venv (about a minute the first time)" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock || { \
		echo "The first start needs the network, to install packages into .venv." >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
