# Everything a newcomer types. `make demo` and `make test` need only Python 3.11 or 3.12, make and a package index: they create
# $(VENV) from the hashed lock of that Python once, and every other target reuses it.
#
#   make demo        a talking face: talk.mp4        make test        lint, types and tests: the gate to merge
#   make setup       install all tools               make lint        ruff and basedpyright alone
#   make parity      compare with torch itself       make format      let ruff rewrite the files
#   make train-demo  train both demo models again    make lock        resolve requirements/ again
#   make clean       remove what the targets made, $(VENV) included
#
# Variables: PYTHON (an interpreter to use), VENV (default .venv), RUNS (where train-demo writes), UPGRADE=--upgrade (for lock).

VENV ?= .venv
RUNS ?= runs
PYTHON ?=
UPGRADE ?=
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --no-compile
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TORCH := torch==2.13.0

.PHONY: demo test setup lint types tests parity format train-demo lock clean

demo: $(VENV)/.core
	@mkdir -p build; began=$$(date +%s); \
	$(BIN)/python -m vasa_jax.synthetic --seed 4000000 --portrait build/demo_portrait.png --speech build/demo_speech.wav || exit; \
	made=$$(date +%s); \
	$(BIN)/python infer.py --image build/demo_portrait.png --audio build/demo_speech.wav --out talk.mp4 || exit; \
	ended=$$(date +%s); \
	echo "talk.mp4 is ready: portrait and speech $$((made - began)) s, video $$((ended - made)) s" \
		"(installation, once: $$(cat $(VENV)/.core) s)"

test: lint types tests

setup: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

tests: $(VENV)/.dev
	$(BIN)/python -m pytest --durations=10 --ignore tests/parity/against_torch $(WORKERS)

parity: $(VENV)/.parity
	$(BIN)/python -m pytest --durations=5 tests/parity/against_torch $(WORKERS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-demo: $(VENV)/.core
	$(BIN)/python train.py configs/demo_autoencoder.py --workdir $(RUNS)/demo_autoencoder
	$(BIN)/python train.py configs/demo_motion.py --workdir $(RUNS)/demo_motion --autoencoder $(RUNS)/demo_autoencoder
	$(BIN)/python train.py configs/demo_autoencoder.py --workdir $(RUNS)/demo_polished --init-from $(RUNS)/demo_autoencoder \
		--optimiser.freeze 'autoencoder/(pose_encoder|dynamics_encoder)/.*' --optimiser.learning-rate 3e-4 --steps 1500

# A candidate is tried, not trusted: a version manager may offer a python3.12 that only prints an error.
$(VENV)/.made:
	@for python in $(PYTHON) $(if $(PYTHON),,python3.12 python3.11 python3 python); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1; \
		then echo "creating $(VENV) with $$python"; "$$python" -m venv $(VENV) && touch $@; exit; fi; \
	done; \
	echo "make: $(if $(PYTHON),$(PYTHON) is not a,there is no) Python 3.11 or 3.12 with venv$(if $(PYTHON),, on this PATH):" \
		"install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1

# The stamps hold the seconds that installing took. .dev is a superset of .core.
define install
	@lock=requirements/py$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])')-$(1).txt; began=$$(date +%s); \
	test -f $$lock || { echo "make: $(VENV) has a Python without a lock ($$lock): remove $(VENV) and try again" >&2; exit 1; }; \
	echo "installing $$lock, about a minute"; \
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r $$lock || exit; \
	for stamp in $(2); do echo $$(($$(date +%s) - began)) > $(VENV)/$$stamp; done
endef

$(VENV)/.core: $(wildcard requirements/*-core.txt) | $(VENV)/.made
	$(call install,core,.core)

$(VENV)/.dev: $(wildcard requirements/*-dev.txt) | $(VENV)/.made
	$(call install,dev,.core .dev)

$(VENV)/.parity: $(wildcard requirements/*-parity.txt) | $(VENV)/.dev
	@echo "installing $(TORCH)"; $(BIN)/python $(PIP_INSTALL) $(TORCH)
	$(call install,parity,.parity)

$(BIN)/uv: | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check uv

# dev first; the others are held to its versions, so that any of them can be installed over another. torch stays out: uv would
# lock its CUDA build.
lock: $(BIN)/uv
	@resolve() { \
		file=requirements/py$$(echo $$1 | tr -d .)-$$2.txt; \
		$(BIN)/uv pip compile pyproject.toml --quiet --python-version $$1 --python-platform x86_64-manylinux_2_$$3 $$4 $(UPGRADE) \
			--generate-hashes --no-header --no-annotate --no-emit-index-url --output-file $$file || exit; \
		{ echo "# Python $$1, $$2: every version and hash; made by \`make lock\` from pyproject.toml."; cat $$file; } > $$file.new; \
		mv $$file.new $$file; \
	}; \
	for version in 3.11 3.12; do \
		held="--constraints requirements/py$$(echo $$version | tr -d .)-dev.txt"; \
		resolve $$version dev 28 "--extra dev --extra faces"; \
		resolve $$version core 28 "$$held"; \
		resolve $$version faces 28 "--extra faces $$held"; \
		resolve $$version parity 28 "--extra parity $$held"; \
		resolve $$version cuda 28 "--extra cuda $$held"; \
		resolve $$version tpu 31 "--extra tpu $$held"; \
		resolve $$version plan 31 "--extra plan $$held"; \
	done

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build talk.mp4
