# make demo    install, then train and evaluate a small model
# make test    everything that CI runs
# make test-long    trials on clusters of several nodes, which take minutes each
# make install | lint | bench | lock | clean
#
# Needs Python 3.11 or newer with pip, and make. Variables:
#   PYTHON=python3.12      Python for the environment
#   TORCH=cpu|cuda         build of torch; by default cuda if nvidia-smi finds a GPU, else cpu
#   TORCH_INDEX=ADDRESS    package index for torch; pytorch.org/get-started shows the index of the CPU builds
#   ARGS='-k storage'      additional arguments for pytest or the benchmarks

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
PLAIN := not bench and not long and not ray and not cluster and not slurm and not slow
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

# Some containers turn off byte code. Every process would then compile all of torch and Ray again (12 s).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-long install lint bench lock clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,10p'

demo: $(RUN)
	@$(BIN)/joyful demo

install: $(RUN)
	@echo "installed; run: $(BIN)/joyful --help"

# What needs Ray runs one test after the other, because Ray takes all cores itself. The rest runs beside it, with less
# priority than Ray gives to its own processes, and is shown at the end. pytest's status 5 says that ARGS left no test of
# this half.
test: lint
	@nice -n 19 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal -m "$(PLAIN)" $(ARGS) > $(VENV)/plain.log 2>&1 & \
	beside=$$!; trap 'kill $$beside; exit 130' INT TERM; plain=0; rest=0; \
	$(BIN)/python -m pytest --durations=15 -m "not ($(PLAIN)) and not bench and not long" $(ARGS) || rest=$$?; \
	wait $$beside || plain=$$?; cat $(VENV)/plain.log; \
	if [ $$plain = 5 ] && [ $$rest = 5 ]; then exit 5; fi; \
	if [ $$plain = 5 ]; then plain=0; fi; if [ $$rest = 5 ]; then rest=0; fi; \
	exit $$((plain + rest))

test-long: $(DEV)
	@$(BIN)/python -m pytest --durations=15 -m long $(ARGS)

lint: $(DEV)
	@started=$$(date +%s); \
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && \
	echo "lint took $$(($$(date +%s) - started)) s"

bench: $(DEV)
	@for script in tests/bench/*.py; do echo "$$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

# The environment. `--no-deps` avoids pip's resolver, which takes minutes and may choose a CUDA build of torch. Three
# processes of pip divide the packages, because each of them mostly waits for the network. Byte code is written at first use.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1). To use another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot create an environment, because its module venv is missing (on Debian and Ubuntu, install the package python3-venv)"; exit 1; }
	@touch $@

define INSTALL
	@echo "installing $$($(1) | wc -l | tr -d ' ') packages into $(VENV), with torch for $(TORCH); this takes one to three minutes"
	@started=$$(date +%s); parts=""; pids=""; \
	if [ "$(TORCH)" = cpu ]; then parts=torch; $(1) | grep '^torch==' > $(VENV)/part-torch.txt; fi; \
	$(1) | grep -v '^torch==' | awk 'NR % 2 == 1' > $(VENV)/part-odd.txt; \
	$(1) | grep -v '^torch==' | awk 'NR % 2 == 0' > $(VENV)/part-even.txt; \
	for part in $$parts odd even; do \
	  index=""; if [ $$part = torch ] && [ -n "$(TORCH_INDEX)" ]; then index="--index-url $(TORCH_INDEX)"; fi; \
	  $(PIP) install --no-deps --no-compile $$index -r $(VENV)/part-$$part.txt & pids="$$pids $$!"; \
	done; \
	failed=""; for pid in $$pids; do wait $$pid || failed=yes; done; \
	if [ -n "$$failed" ]; then echo "pip could not install all packages; see its messages above. Fix the cause and run make again"; exit 1; fi; \
	if [ "$(TORCH)" = cuda ]; then \
	  $(PIP) install --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock "$$($(1) | grep '^torch==')" || exit 1; fi; \
	$(BIN)/python -c 'import torch' 2> $(VENV)/torch-error.txt || { \
	  tail -n 1 $(VENV)/torch-error.txt; $(PIP) uninstall -y torch; \
	  echo "this torch cannot run here: pip installed a CUDA build, but there are no CUDA libraries. Without a GPU, run: make $(MAKECMDGOALS) TORCH_INDEX=ADDRESS, with the address of the CPU builds from pytorch.org/get-started. With a GPU, run: make $(MAKECMDGOALS) TORCH=cuda"; \
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

# Resolves pyproject.toml again. The version of torch stays as in the lock file; to change it, edit that line first.
lock:
	@rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install -q setuptools "$$(grep '^torch==' requirements.lock)" packaging -e '.[dev]'
	@$(VENV)-lock/bin/python .ci/lock.py > requirements.lock.new && mv requirements.lock.new requirements.lock
	@rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock *.egg-info build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find joyful_ray tests -name __pycache__ -type d -prune -exec rm -rf {} +
