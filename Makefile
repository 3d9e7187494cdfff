# make demo    from a fresh checkout to a trained, evaluated model
# make test    all that CI runs
# make install | lint | bench | lock | clean
#
# Needs Python 3.11 or newer with pip, and make. What can be set:
#   PYTHON=python3.12      the Python that the environment is made with
#   TORCH=cpu|cuda         which torch; cuda where an NVIDIA GPU answers, else cpu
#   TORCH_INDEX=ADDRESS    the package index that torch comes from; pytorch.org/get-started shows the one of the CPU builds
#   ARGS='-k storage'      more arguments for pytest, or for the benchmarks

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

# Some containers forbid byte code; then every process would compile all of torch and Ray again (12 s).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test install lint bench lock clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,9p'

demo: $(RUN)
	@$(BIN)/joyful demo

install: $(RUN)
	@echo "installed; run: $(BIN)/joyful --help"

test: lint
	@$(BIN)/python -m pytest --durations=15 $(ARGS)

lint: $(DEV)
	@started=$$(date +%s); \
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && \
	echo "lint took $$(($$(date +%s) - started)) s"

bench: $(DEV)
	@for script in tests/bench/*.py; do echo "$$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

# The environment. `--no-deps` keeps pip's resolver out, which takes minutes and may pick a CUDA torch; three pips share
# the lock because each waits for the network most of its time; byte code is written at first use.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) says: $$($(PYTHON) --version 2>&1 | head -n 1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make an environment; its venv module is missing (Debian, Ubuntu: the package python3-venv)"; exit 1; }
	@touch $@

define INSTALL
	@echo "installing $$($(1) | wc -l | tr -d ' ') packages into $(VENV), torch for $(TORCH); this takes one to three minutes"
	@started=$$(date +%s); parts=""; pids=""; \
	if [ "$(TORCH)" = cpu ]; then parts=torch; $(1) | grep '^torch==' > $(VENV)/part-torch.txt; fi; \
	$(1) | grep -v '^torch==' | awk 'NR % 2 == 1' > $(VENV)/part-odd.txt; \
	$(1) | grep -v '^torch==' | awk 'NR % 2 == 0' > $(VENV)/part-even.txt; \
	for part in $$parts odd even; do \
	  index=""; if [ $$part = torch ] && [ -n "$(TORCH_INDEX)" ]; then index="--index-url $(TORCH_INDEX)"; fi; \
	  $(PIP) install --no-deps --no-compile $$index -r $(VENV)/part-$$part.txt & pids="$$pids $$!"; \
	done; \
	failed=""; for pid in $$pids; do wait $$pid || failed=yes; done; \
	if [ -n "$$failed" ]; then echo "pip could not install everything; its words are above. Run make again once that is mended"; exit 1; fi; \
	if [ "$(TORCH)" = cuda ]; then \
	  $(PIP) install --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock "$$($(1) | grep '^torch==')" || exit 1; fi; \
	$(BIN)/python -c 'import torch' 2> $(VENV)/torch-error.txt || { \
	  tail -n 1 $(VENV)/torch-error.txt; $(PIP) uninstall -y torch; \
	  echo "this torch does not run here: pip found a CUDA build and no CUDA libraries. Without a GPU: make $(MAKECMDGOALS) TORCH_INDEX=ADDRESS, the address for CPU that pytorch.org/get-started shows; with one: make $(MAKECMDGOALS) TORCH=cuda"; \
	  exit 1; }; \
	$(PIP) install --no-deps --no-build-isolation -e . || exit 1; \
	echo "installed in $$(($$(date +%s) - started)) s"
endef

$(RUN): requirements.lock pyproject.toml | $(VENV)/.created
	$(call INSTALL,grep -v -e '^\#' -e '\# dev$$' requirements.lock)
	@touch $@

$(DEV): requirements.lock pyproject.toml | $(VENV)/.created
	$(call INSTALL,sed -e '/^\#/d' -e 's/ *\# dev$$//' requirements.lock)
	@touch $(RUN) $@

# Resolves pyproject.toml anew, torch at the version that the lock has now; edit that line first to move it.
lock:
	@rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install -q setuptools "$$(grep '^torch==' requirements.lock)" packaging -e '.[dev]'
	@$(VENV)-lock/bin/python .ci/lock.py > requirements.lock.new && mv requirements.lock.new requirements.lock
	@rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock *.egg-info build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find joyful_ray tests -name __pycache__ -type d -prune -exec rm -rf {} +
