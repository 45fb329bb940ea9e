# Everything a newcomer types. `make demo` and `make test` need only Python 3.11 to 3.14, make and a package index: they create
# $(VENV) from a hashed lock once, with the package in place, and every other target reuses it.
#
#   make demo        talking faces: talk.mp4         make test        lint, types and tests: the gate to merge
#   make live        a face that answers, in a browser
#   make setup       install all tools               make lint        ruff and basedpyright alone
#   make parity      compare with torch itself       make format      let ruff rewrite the files
#   make train-demo  train both demo models again    make lock        resolve requirements/ again
#   make compiled    some tests as users compile     make installed   try wheel and sdist elsewhere
#   make long        tests of whole ways             make audit       ask for known holes in what the locks name
#   make sbom        build/sbom.json: what we stand on (CycloneDX)
#   make clean       remove what the targets made, $(VENV) included
#
# Variables: PYTHON (an interpreter to use), VENV (default .venv), PORT (of the live face, default 8000), RUNS (where train-demo
# writes), UPGRADE=--upgrade (for lock), LOCK (of sbom, default core), SERVICE (that audit asks: pypi or osv).

VENV ?= .venv
RUNS ?= runs
PYTHON ?=
UPGRADE ?=
PORT ?= 8000
LOCK ?= core
SERVICE ?= pypi
AUDIT := build/audit
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --no-compile
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TORCH := torch==2.13.0
PACKAGING := pyproject.toml setup.py

# Tests start hundreds of commands: what Python compiled for one of them serves the next.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo live test setup lint types tests long compiled installed parity audit sbom format train-demo lock clean

demo: $(VENV)/.core
	@$(BIN)/vasa-demo --out talk.mp4 || exit; echo "(installation, once: $$(cat $(VENV)/.core) s)"

# Ctrl-C ends it; it listens on this machine alone.
live: $(VENV)/.serve
	@exec $(BIN)/python -m vasa_jax.serve --port $(PORT)

test: lint types tests

setup: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

tests: $(VENV)/.dev
	$(BIN)/python -m pytest --durations=10 -m "not long" --ignore tests/parity/against_torch --ignore tests/installed $(WORKERS)

# Whole ways: documents' commands in order, clusters, training to a video, real films.
long: $(VENV)/.dev
	$(BIN)/python -m pytest --durations=10 -m "long and not alone" --ignore tests/parity/against_torch --ignore tests/installed $(WORKERS)
	$(BIN)/python -m pytest --durations=10 -m alone tests/serve

# The session of tests compiles in a hurry (tests/compiling.py); here XLA keeps its own options.
compiled: $(VENV)/.dev
	XLA_FLAGS= $(BIN)/python -m pytest --durations=5 -m users_compiler --ignore tests/installed --ignore tests/parity/against_torch $(WORKERS)

installed: $(VENV)/.dev
	$(BIN)/python -m pytest --durations=5 tests/installed

parity: $(VENV)/.parity
	$(BIN)/python -m pytest --durations=5 tests/parity/against_torch $(WORKERS)

# Every version that any lock names for any Python and platform, hence without markers: the first of each package in pins.1.txt, a
# second one in pins.2.txt, and so on. Strict, for else a version that the service does not know would pass for a clean one. Its
# warnings are about hashes, which the locks have and pins do not need.
audit: $(AUDIT)/.made
	@rm -f $(AUDIT)/pins.*.txt
	@sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' requirements/*.txt | sort -u | \
		awk -F== '{ print > ("$(AUDIT)/pins." ++seen[$$1] ".txt") }'
	@failed=0; for pins in $(AUDIT)/pins.*.txt; do \
		echo "$$(wc -l < $$pins) versions"; \
		$(AUDIT)/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps --vulnerability-service $(SERVICE) \
			-r $$pins 2> $(AUDIT)/errors || failed=1; \
		grep -v "^WARNING" $(AUDIT)/errors >&2; \
	done; exit $$failed

# Checked against CycloneDX's schema before it is written; the same lock gives the same bytes. It lists packages and not which of
# them needs which: that is what the warning would be about.
sbom: $(AUDIT)/.made
	@version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' vasa_jax/__init__.py); \
		sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > $(AUDIT)/pyproject.toml
	@$(AUDIT)/bin/python -W ignore::UserWarning -m cyclonedx_py requirements requirements/$(LOCK).txt \
		--pyproject $(AUDIT)/pyproject.toml --mc-type library --output-reproducible --validate --output-format JSON --output-file build/sbom.json
	@echo "build/sbom.json: all that requirements/$(LOCK).txt names"

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-demo: $(VENV)/.core
	$(BIN)/vasa-train demo_autoencoder --workdir $(RUNS)/demo_autoencoder
	$(BIN)/vasa-train demo_motion --workdir $(RUNS)/demo_motion --autoencoder $(RUNS)/demo_autoencoder \
		--augmentation.share 0 --augmentation.settled 0 --data.clips 400 --steps 1500
	$(BIN)/vasa-train demo_autoencoder --workdir $(RUNS)/demo_polished --init-from $(RUNS)/demo_autoencoder \
		--optimiser.freeze 'autoencoder/(pose_encoder|dynamics_encoder)/.*' --optimiser.learning-rate 3e-4 --steps 1500
	$(BIN)/vasa-train demo_motion --workdir $(RUNS)/demo_heard --autoencoder $(RUNS)/demo_polished --init-from $(RUNS)/demo_motion \
		--optimiser.learning-rate 5e-4 --optimiser.warmup 30 --data.clips 400 --steps 400
	$(BIN)/vasa-train demo_encoders --workdir $(RUNS)/demo_encoders --init-from $(RUNS)/demo_polished
	$(BIN)/vasa-train demo_autoencoder_randomised --workdir $(RUNS)/demo_face --init-from $(RUNS)/demo_encoders \
		--data.path $(RUNS)/demo_encoders/data
	$(BIN)/vasa-train demo_motion --workdir $(RUNS)/demo_spoken --autoencoder $(RUNS)/demo_encoders --init-from $(RUNS)/demo_heard \
		--refit-statistics

# A candidate is tried, not trusted: a version manager may offer a python3.14 that only prints an error.
$(VENV)/.made:
	@for python in $(PYTHON) $(if $(PYTHON),,python3.14 python3.13 python3.12 python3.11 python3 python); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; \
		then echo "creating $(VENV) with $$python"; "$$python" -m venv $(VENV) && touch $@; exit; fi; \
	done; \
	echo "make: $(if $(PYTHON),$(PYTHON) is not a,there is no) Python 3.11 to 3.14 with venv$(if $(PYTHON),, on this PATH):" \
		"install one (and on Debian its python3-venv), or name it: make PYTHON=/path/to/python3.13" >&2; exit 1

# The stamps hold the seconds that installing took. .dev is a superset of .core. The package itself is installed in place, so that
# its commands are there and `import vasa_jax` works from any folder.
define install
	@began=$$(date +%s); echo "installing requirements/$(1).txt, about a minute"; \
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/$(1).txt || exit; \
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable . || exit; \
	for stamp in $(2); do echo $$(($$(date +%s) - began)) > $(VENV)/$$stamp; done
endef

$(VENV)/.core: requirements/core.txt $(PACKAGING) | $(VENV)/.made
	$(call install,core,.core)

$(VENV)/.serve: requirements/serve.txt | $(VENV)/.core
	$(call install,serve,.serve)

$(VENV)/.dev: requirements/dev.txt $(PACKAGING) | $(VENV)/.made
	$(call install,dev,.core .serve .dev)

$(VENV)/.parity: requirements/parity.txt | $(VENV)/.dev
	@echo "installing $(TORCH)"; $(BIN)/python $(PIP_INSTALL) $(TORCH)
	$(call install,parity,.parity)

$(AUDIT)/.made: requirements/audit.txt | $(VENV)/.made
	@echo "installing requirements/audit.txt into $(AUDIT)"; rm -rf $(AUDIT); $(BIN)/python -m venv $(AUDIT)
	@$(AUDIT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/audit.txt && touch $@

$(BIN)/uv: | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check uv

# dev first; the others are held to its versions, so that any of them can be installed over another. One file serves every Python
# and platform, by markers. torch stays out: uv would lock its CUDA build.
lock: $(BIN)/uv
	@resolve() { \
		file=requirements/$$1.txt; \
		$(BIN)/uv pip compile $$2 --quiet --universal --python-version 3.11 $(UPGRADE) \
			--generate-hashes --no-header --no-annotate --no-emit-index-url --output-file $$file || exit; \
		{ echo "# $$1: every version and hash; made by \`make lock\` from pyproject.toml."; cat $$file; } > $$file.new; \
		mv $$file.new $$file; \
	}; \
	held="--constraints requirements/dev.txt"; \
	resolve dev "pyproject.toml --group editable --extra dev --extra prepare --extra serve --extra livekit"; \
	resolve core "pyproject.toml --group editable $$held"; \
	resolve audit "--group audit $$held"; \
	for extra in parity cuda tpu plan prepare serve livekit; do resolve $$extra "pyproject.toml --extra $$extra $$held"; done; \
	for python in 3.11 3.12 3.13 3.14; do \
		for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do \
			MACOSX_DEPLOYMENT_TARGET=15.0 $(BIN)/uv pip install --quiet --dry-run --target $(VENV)/none --only-binary :all: \
				--require-hashes --python-version $$python --python-platform $$platform -r requirements/dev.txt || exit; \
			echo "Python $$python, $$platform: a wheel of everything"; \
		done; \
	done

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build talk.mp4
