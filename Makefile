# make demo    the whole city on this machine, in one terminal        make demo ARGS="--duration 60 --speed 200"
# make test    everything that is checked, from scratch                make bench   ratios to limits measured in the same run
# Needs Python 3.11 or newer, and nothing else: PostgreSQL and the broker come as wheels.

# Debian's own comes first: it is built with profile-guided optimisation, and a fifth faster than one that is not.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for modules in 'ensurepip, venv' sys; do for python in /usr/bin/python3 python3.11 python3; do \
	$$python -c "import $$modules; $(NEW_ENOUGH)" 2>/dev/null && command -v $$python && exit; done; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
ARGS ?=
WORKERS ?= 2
BENCHMARKS := $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))

# Every start of ehr without bytecode compiles 2.6 s long. pip writes none (--no-compile): it would compile, for 15 s, all
# that there is; the first ehr after it writes what ehr needs, whatever the environment says, and pytest what tests need.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install develop demo test lint browser bench lock clean

install: .venv/installed
develop: .venv/developing

demo: install
	$(BIN)/ehr demo $(ARGS)

# Chromium is fetched while mypy, which keeps one core busy, reads everything.
test: develop
	@$(MAKE) --no-print-directory -j2 -O lint browser
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: develop
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

# Debian's chromium serves the browser tests, and libatomic1 playwright's driver; where they are missing and we may not
# install them, the tests skip and say so.
browser: develop
	@if { command -v chromium || command -v google-chrome; } >/dev/null && $(BIN)/playwright --version >/dev/null 2>&1; \
	then exit 0; fi; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; \
	then echo "installing chromium"; { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends chromium libatomic1; } >/dev/null 2>&1; else false; fi \
	|| echo "chromium could not be installed: browser tests will skip"

# The hashes of both lock files cover every platform; they are made anew by: make lock
lock: .venv/bin/python
	$(PIP) install uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra build --extra dev pyproject.toml -o requirements-dev.lock

# In a checkout that only root may enter, data holds links to folders of the account that PostgreSQL runs as.
clean:
	@for link in data/*; do test ! -L $$link || rm -rf "$$(readlink -f $$link)"; done
	rm -rf .venv data

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: on Debian, apt-get install python3;" \
		"where it is elsewhere, make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' \
		|| { echo "$(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; \
		then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null; \
		else echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; fi; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.lock pyproject.toml
	$(PIP) install --require-hashes --only-binary :all: --no-deps --no-compile -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/ehr --help >/dev/null
	@touch $@

.venv/developing: .venv/bin/python requirements-dev.lock pyproject.toml
	$(PIP) install --require-hashes --only-binary :all: --no-deps --no-compile -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/ehr --help >/dev/null
	@touch $@ .venv/installed
