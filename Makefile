# Needs make and Python 3.11 or later; everything else is installed into .venv from the hashed locks in requirements/.

SHELL := /bin/sh
export PYTHON
VENV := .venv
PY := $(VENV)/bin/python
DATA := $(or $(DATA_DIR),.data)
NPM_SERVER := .data/npm/node_modules/jsonplaceholder

# A stamp's name holds its lock's checksum: a changed lock is installed, an unchanged one costs nothing.
stamp = $(VENV)/installed-$(1)-$(firstword $(shell cksum < requirements/$(1).txt))
EMBEDDED := $(call stamp,embedded)
DEV := $(call stamp,dev)
BENCH := $(subst installed-,bench/installed-,$(call stamp,bench))

.DEFAULT_GOAL := help
.PHONY: help up run-up test check bench faults soak lock npm clean

help:
	@echo 'make up          install, start everything, sync the sample photos, stay until Ctrl-C'
	@echo 'make up ONCE=1   the same, but end after that first run (exit 0 if it succeeded, else 1)'
	@echo 'make test        run the whole test suite on real servers'
	@echo 'make check       run the formatter, the linters, the type checker and the deployment checks'
	@echo 'make faults      kill, cut, freeze and duplicate whatever takes part in a run, for an hour and a quarter'
	@echo 'make soak        load 10 GiB of CSV from HTTP and S3 under a limit of memory, for some minutes'
	@echo 'make bench       measure; nothing else should run on the machine'
	@echo 'make lock        resolve the dependencies of pyproject.toml again'
	@echo 'make clean       delete .venv, caches and the embedded database with everything in it'

# Make itself ends with 2 and a line of its own when a recipe fails, but `make up ONCE=1` promises 1 and the summary as
# its last line. In question mode (-q) make ends with 1, silently, when something is left to do: so `run-up` always
# succeeds and notes its status, and something is left to do for `up` unless that is 0. Lines with + run in spite of -q.
STARTED_AT := $(shell date +%s)
ifneq ($(and $(filter up,$(MAKECMDGOALS)),$(filter-out 0,$(ONCE))),)
MAKEFLAGS += -q
STATUS := $(VENV)/up-$(shell echo $$PPID).status
endif

up: run-up
	$(if $(STATUS),$(if $(filter 0,$(shell cat $(STATUS) 2>/dev/null; rm -f $(STATUS))),,@false))

# exec, so that it is make's own child, whom make's signals reach.
run-up: $(EMBEDDED)
	+@UP_STARTED_AT=$(STARTED_AT) exec $(PY) -m config.up $(if $(STATUS),--once --status-file $(STATUS))

# Compiled tests are kept whatever the environment says: compiling them takes each process of pytest longer than
# importing them.
test: $(DEV) npm
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

check: $(DEV)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m deptry .
	$(VENV)/bin/yamllint --strict $(wildcard docker-compose.yml .yamllint.yml)
	$(PY) manage.py makemigrations --check --dry-run
	@echo 'manage.py check --deploy, as in production'
	@env -u DATA_DIR DEBUG=0 ALLOWED_HOSTS=example.org PHOTOS_API_URL=https://photos.example.org \
	  SECRET_KEY=$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(50))') \
	  DATABASE_URL=postgres://user:password@localhost/ingestion REDIS_URL=redis://:password@localhost/0 \
	  $(PY) manage.py check --deploy --fail-level WARNING

bench: $(DEV) $(BENCH)
	$(PY) -m tests.bench $(ARGS)

faults: $(DEV)
	@$(PY) -m tests.faults $(ARGS)

soak: $(DEV)
	@$(PY) -m tests.soak $(ARGS)

# What sources may need and the core does without: the tests need all of it.
SOURCES := --extra s3 --extra sftp --extra xml --extra excel --extra big-json --extra credentials --extra soap \
	--extra codings

lock: $(DEV)
	$(call compile,core)
	$(call compile,embedded,--extra embedded)
	$(call compile,dev,--extra embedded $(SOURCES) --group dev)
	$(call compile,bench,--group bench --constraints requirements/dev.txt)

# For every platform, with hashes and without the name of the index they came from.
compile = $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	--python-version 3.11 pyproject.toml $(2) -o requirements/$(1).txt

# The real JSONPlaceholder, which some tests sync from; they say so and are skipped where there is no npm.
npm:
	@if [ ! -e $(NPM_SERVER) ] && command -v npm >/dev/null; then \
	  NODE_EXTRA_CA_CERTS=$${NODE_EXTRA_CA_CERTS-$(wildcard /etc/ssl/certs/ca-certificates.crt)} \
	  npm install --prefix .data/npm --no-audit --no-fund --loglevel error jsonplaceholder@0.3.3 || true; \
	fi

clean:
	@for data in $(DATA)/tests $(DATA); do \
	  PYTHONPATH=config $(or $(wildcard $(PY)),$(PYTHON),python3) -m servers discard $$data || exit 1; \
	done
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# dev holds everything that embedded does, so it does for both.
$(EMBEDDED): requirements/embedded.txt
	+@if [ ! -e $(DEV) ]; then requirements/install embedded; fi && touch $@

$(DEV): requirements/dev.txt
	@requirements/install dev && touch $@ $(EMBEDDED)

# An environment inside the other one: it has psycopg 3, which Django prefers to psycopg2 wherever it finds it.
$(BENCH): requirements/bench.txt | $(DEV)
	@echo Installing requirements/bench.txt
	@rm -rf $(VENV)/bench
	@$(VENV)/bin/uv venv --quiet --python $(PY) $(VENV)/bench
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bench/bin/python --require-hashes -r requirements/bench.txt
	@touch $@
