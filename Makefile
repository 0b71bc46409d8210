# Every target sets up .venv on first use, and again when pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check # -qq: errors only
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-model demo-ablations head-1 head-2 test lint check-format \
	check-style check-types format bench constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## install the package and its tools into .venv
	@:

# torch comes first and by its exact version: a local or extra index may then offer its CPU build (2.13.0+cpu),
# where a range would fetch the newest release with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "r2tuning needs Python 3.10 or newer, but $(PYTHON) is: $$($(PYTHON) -V 2>&1 | head -n 1);" \
			"name another one: make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Creating .venv"; $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }; }
	@echo "Installing $(TORCH)"
	@$(INSTALL) '$(TORCH)'
	@echo "Installing r2tuning with its development tools"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

# Nothing of it needs a network once .venv is set up.
demo: $(STAMP) ## ask the bundled video three questions, with the model that comes with the package
	@$(BIN)/python examples/demo.py

# What was made is kept in build/demo, so an interrupted run goes on where it stopped. The numbers of
# docs/moving-shapes.md are written last.
SHAPES := build/demo/data
RESULTS := build/demo/results
HEAD := build/demo/head
VIDEOS := 2400
RECIPE := --set name=demo --set data.annotations=$(SHAPES) --set data.workers=0
TUNE := $(BIN)/r2tuning
SCORE := evaluate moving-shapes -c src/r2tuning/assets/demo/head --annotations $(SHAPES) --force
# For a run that was interrupted; of one that is complete, it does nothing.
RESUME = $(if $(wildcard $(1)/recipe.yaml),--resume)

demo-model: $(STAMP) ## make the demo model, and its numbers in docs/moving-shapes.md, from nothing (over two hours)
	@mkdir -p $(RESULTS)
	$(BIN)/python -m demo.train_clip build/demo/clip --videos $(VIDEOS)
	$(BIN)/python -m demo.pack clip build/demo/clip
	$(BIN)/python -m demo.features build/demo/frames $(SHAPES) --videos $(VIDEOS)
	$(TUNE) synthesize $(SHAPES) --split val --videos 60 --jobs $(JOBS)
	$(TUNE) synthesize $(SHAPES) --split test --videos 80 --jobs $(JOBS)
	@for file in val val_absent test test_absent; do $(TUNE) extract $(SHAPES)/$$file.jsonl $(SHAPES)/videos \
		$(SHAPES)/features -b moving-shapes --backbone demo --jobs $(JOBS) || exit 1; done
	$(BIN)/python -m demo.warm_start build/demo/frames $(SHAPES) build/demo/warm-start --videos $(VIDEOS) $(RECIPE)
	$(TUNE) train moving-shapes $(RECIPE) --set training.start_from=build/demo/warm-start --run $(HEAD) \
		$(call RESUME,$(HEAD))
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j 2 head-1 head-2
	$(BIN)/python -m demo.average $(HEAD)-mean $(HEAD)-1/best $(HEAD)-2/best
	$(BIN)/python -m demo.pack head $(HEAD)-mean $(SHAPES)
	$(TUNE) calibrate src/r2tuning/assets/demo/head moving-shapes --annotations $(SHAPES) --force
	$(TUNE) $(SCORE) --split test --bins --json $(RESULTS)/test.json --predictions $(RESULTS)/test.jsonl
	$(TUNE) $(SCORE) --split val --predictions $(RESULTS)/val.jsonl
	@for split in val test; do $(BIN)/python -m demo.kinds $(RESULTS)/$$split.jsonl $(SHAPES)/$$split.jsonl \
		--json $(RESULTS)/kinds-$$split.json || exit 1; done
	$(BIN)/python -m demo.zero_shot $(SHAPES) --json $(RESULTS)/zero-shot.json
	$(BIN)/python -m demo.absent $(SHAPES) src/r2tuning/assets/demo/head --json $(RESULTS)/absent.json \
		--plot docs/images/moving-shapes-absent.png
	$(BIN)/python -m demo.calibration $(SHAPES) src/r2tuning/assets/demo/head --json $(RESULTS)/scores.json \
		--plot docs/images/scores-reliability.png
	$(BIN)/python -m demo.summaries $(SHAPES) src/r2tuning/assets/demo/head --json $(RESULTS)/summaries.json
	$(BIN)/python -m demo.attention_share $(SHAPES) demo --queries 100 --json $(RESULTS)/attention-share.json
	$(BIN)/python -m demo.report $(SHAPES) $(RESULTS)

# Two trainings side by side, with a thread each, take little longer than one with two.
head-1 head-2: head-%:
	$(TUNE) train moving-shapes $(RECIPE) --set training.start_from=$(HEAD)/best --set training.epochs=1 \
		--set optimizer.lr=3e-4 --set optimizer.drop_epochs=[] --set training.seed=$* --run $(HEAD)-$* \
		$(call RESUME,$(HEAD)-$*)

# Ablations begin with a head that was trained on the last layer alone, which all ways to use more have in common, and
# train on the first 2,400 queries, once, with the losses of the published models.
SHORT := build/demo/short
RELEASED := --set losses.recipe=released --set losses.offset=0.5 --set losses.saliency=0.1
ABLATE := ablate moving-shapes $(RELEASED) --set name=demo --set data.annotations=$(SHORT) \
	--set data.features=$(SHAPES)/features --set data.workers=0 --set training.start_from=build/demo/one-layer/best \
	--set training.epochs=1 --set optimizer.warmup_steps=10 --set optimizer.drop_epochs=[] --set training.ema=0.95 --seeds 3

demo-ablations: $(STAMP) ## make the ablations of docs/moving-shapes.md, after make demo-model (an hour)
	@test -d build/demo/warm-start || { echo "build/demo is not made yet; first: make demo-model" >&2; exit 1; }
	@mkdir -p $(SHORT)
	@head -n 2400 $(SHAPES)/train.jsonl > $(SHORT)/train.jsonl
	@head -n 200 $(SHAPES)/val.jsonl > $(SHORT)/val.jsonl
	$(TUNE) train moving-shapes $(RECIPE) $(RELEASED) --set model.layers=1 --set training.epochs=1 \
		--set training.start_from=build/demo/warm-start --run build/demo/one-layer \
		$(call RESUME,build/demo/one-layer)
	$(TUNE) $(ABLATE) --paper refinement --run build/demo/refinement --json $(RESULTS)/refinement.json --force
	$(TUNE) $(ABLATE) --paper calibration --run build/demo/calibration --json $(RESULTS)/calibration.json --force
	$(BIN)/python -m demo.report $(SHAPES) $(RESULTS)

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

clean: ## remove caches and build outputs (.venv stays; delete it to start anew)
	@rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
