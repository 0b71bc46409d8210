# Every target sets up .venv on first use, and again after a change of pyproject.toml or constraints.txt.

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

BIN := .venv/bin
PACKAGE := .venv/.package
SERVER := .venv/.server
STAMP := .venv/.installed
APP := build/app
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check # -qq: errors only
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup demo app docs test lint check-format check-style check-types format bench constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## install the package, its extras and its tools into .venv (2.5 GB)
	@:

# The package alone takes 1.3 GB with the CPU build of torch. torch comes first and by its exact version: a local or
# extra index may then offer its CPU build (2.13.0+cpu), where a range would fetch the newest release with gigabytes of
# CUDA.
$(PACKAGE): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "r2tuning needs Python 3.10 or newer, but $(PYTHON) is: $$($(PYTHON) -V 2>&1 | head -n 1);" \
			"name another one: make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Creating .venv"; $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }; }
	@echo "Installing $(TORCH)"
	@$(INSTALL) '$(TORCH)'
	@echo "Installing r2tuning"
	@$(INSTALL) -c constraints.txt -e .
	@touch $(PACKAGE)

$(STAMP): $(PACKAGE)
	@echo "Installing its extras and development tools"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

# Needs no network once .venv is set up.
demo: $(PACKAGE) ## ground three queries in the bundled video with the embedded model
	@$(BIN)/python examples/demo.py

$(SERVER): $(PACKAGE)
	@$(INSTALL) -c constraints.txt -e '.[server]'
	@touch $(SERVER)

$(APP)/.made: | $(SERVER)
	@echo "Making a library of six videos; this takes a minute or two, once"
	@$(BIN)/r2tuning synthesize $(APP)/shapes --videos 6 --split test --seed 9 --jobs $(JOBS)
	@$(BIN)/r2tuning library add --library $(APP)/library --model demo $(APP)/shapes/videos
	@touch $(APP)/.made

app: $(APP)/.made ## serve a library of Moving Shapes and open its page (made once; ARGS are passed to serve)
	@echo "Queries to try on the page:"
	@awk -F'"query": "' 'NR % 6 == 1 { split($$2, part, "\""); print "  " part[1] }' $(APP)/shapes/test.jsonl
	@$(BIN)/r2tuning serve $(APP)/library --root $(APP)/shapes/videos $(ARGS)

# Every warning is an error. The variable silences an advertisement of the theme.
docs: $(STAMP) ## build the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "The site is in site/; open site/index.html"

# One thread per worker: two workers with two threads each fight for the cores of a small machine.
test: $(STAMP) ## run the tests (JOBS=2 workers; ARGS='-k name' are passed to pytest)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --durations=5 --durations-min=5 $(ARGS)

lint: check-format check-style check-types ## check format, style and types

check-format: $(STAMP)
	@$(BIN)/python -m ruff format --check .

check-style: $(STAMP)
	@$(BIN)/python -m ruff check .

check-types: $(STAMP)
	@$(BIN)/python -m mypy

format: $(STAMP) ## format the code and fix what ruff can fix
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

bench: $(STAMP) ## run every benchmark of benchmarks/bench_*.py
	@for script in benchmarks/bench_*.py; do \
		test -f "$$script" || { echo "benchmarks/ holds no bench_*.py to run" >&2; exit 1; }; \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# The CUDA packages that PyPI's torch asks for are left out, so that users of another build of torch are free.
constraints: $(STAMP) ## renew constraints.txt from pyproject.toml (keeps versions that still fit)
	@$(INSTALL) uv
	@cp constraints.txt .venv/constraints.txt
	@echo '$(TORCH)' | $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --all-extras \
		--no-annotate --no-header pyproject.toml - --output-file .venv/constraints.txt
	@{ sed -n '/^#/p' constraints.txt; grep -Ev '^(nvidia-|cuda-|triton)' .venv/constraints.txt; } > .venv/constraints.new
	@mv .venv/constraints.new constraints.txt
	@rm .venv/constraints.txt

clean: ## remove caches and build outputs (.venv stays; delete it to start over)
	@rm -rf build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests benchmarks projects -name __pycache__ -type d -prune -exec rm -rf {} +
