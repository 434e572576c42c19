# Everything runs in .venv, which each target makes if it is missing. `make` alone prints the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
TORCH := torch==2.13.0
VLLM_VENV := .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/pip --disable-pip-version-check --quiet
DEEPSPEED_VENV := .venv-deepspeed
DEEPSPEED_PIP := $(DEEPSPEED_VENV)/bin/pip --disable-pip-version-check --quiet
# One thread a process: the models here are small, the tests already use every core, and threads that wait for each other
# on cores that others use make the quickstart many times slower.
RUN := OMP_NUM_THREADS=1 $(BIN)/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart test heavy vllm bfcl deepspeed gpu check format bench mutation clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## install everything for development into .venv

quickstart: $(VENV)/.train ## train a small model on this machine and watch it learn
	$(RUN) -m awpo_agent.quickstart

test: $(VENV)/.dev ## run the tests, without those that take minutes
	$(RUN) -m pytest -m "not heavy and not gpu and not vllm" $(PYTEST_ARGS)

heavy: $(VENV)/.dev ## run the tests that take minutes
	$(RUN) -m pytest -m "heavy and not gpu and not vllm" $(PYTEST_ARGS)

vllm: $(VLLM_VENV)/.made ## run the tests that need vLLM, in an environment of its own
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -m "vllm and not gpu" tests/vllm $(PYTEST_ARGS)

bfcl: $(VENV)/.bfcl ## run the tests that need bfcl-eval, which is added to .venv
	$(RUN) -m pytest tests/env/bfcl $(PYTEST_ARGS)

deepspeed: $(DEEPSPEED_VENV)/.made ## run the tests that need DeepSpeed, in an environment of its own
	OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu $(DEEPSPEED_VENV)/bin/python -m pytest -k zero -m "not gpu" \
		tests/agent/test_sharding.py $(PYTEST_ARGS)

gpu: $(VENV)/.dev ## run the checks that need GPUs and write what they measure to benchmarks/results
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "this machine has no GPU")'
	$(BIN)/python -m pytest -m gpu tests $(PYTEST_ARGS)
	$(BIN)/python benchmarks/bench_gpu.py --json benchmarks/results/gpu.json

check: $(VENV)/.dev ## lint and check the formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## repair lint and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## run the benchmarks, results go to benchmarks/results
	@mkdir -p benchmarks/results
	@set -e; for script in benchmarks/bench_*.py; do \
		name=$$(basename $$script .py | sed s/bench_//); echo "$$name"; \
		$(RUN) $$script --json benchmarks/results/$$name.json; \
	done

# In a copy: mutmut copies once more, but would leave its folder here.
mutation: $(VENV)/.dev ## mutate estimators, probes and losses, and list what no test notices; up to an hour
	$(PIP) install "mutmut==3.8.1"
	rm -rf build/mutation && mkdir -p build/mutation
	cp -R awpo_agent awpo_env tools tests pyproject.toml build/mutation
	cd build/mutation && { OMP_NUM_THREADS=1 timeout 3600 $(CURDIR)/$(BIN)/mutmut run; $(CURDIR)/$(BIN)/mutmut results; }

clean: ## remove the environments, builds and caches
	rm -rf $(VENV) $(VLLM_VENV) $(DEEPSPEED_VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1); \
	run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first: a pinned release keeps pip from choosing another build when the open range is resolved.
$(VENV)/.train: pyproject.toml | $(VENV)/.created
	$(PIP) install "$(TORCH)"
	$(PIP) install -e ".[train]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	$(PIP) install "$(TORCH)"
	$(PIP) install -e ".[dev,openai]"
	@touch $@ $(VENV)/.train

# vLLM for CPUs beside this project. Its torch is pinned, and needs to be there first; and of what it depends on, four
# packages are builds for CUDA: without them everything here works, with them `import transformers` does not.
$(VLLM_VENV)/.made: pyproject.toml examples/vllm_cpu/pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) install "$(TORCH)"
	$(VLLM_PIP) install ./examples/vllm_cpu -e ".[vllm,judge]" "transformers[serving]" "pytest>=8.3"
	$(VLLM_PIP) uninstall -y torchvision torchaudio torchcodec triton
	@touch $@

# Built beside the torch that is there; its parts for GPUs are built when they are first used.
$(DEEPSPEED_VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(DEEPSPEED_VENV)
	$(DEEPSPEED_PIP) install "$(TORCH)" setuptools wheel ninja
	$(DEEPSPEED_PIP) install -e ".[peft]" "pytest>=8.3"
	DS_ACCELERATOR=cpu DS_BUILD_OPS=0 $(DEEPSPEED_PIP) install --no-build-isolation "deepspeed==0.19.8"
	@touch $@

# Without what it asks for, which would replace half of what is installed; these environments need none of it.
$(VENV)/.bfcl: $(VENV)/.dev
	$(PIP) install --no-deps "bfcl-eval==2026.3.23"
	$(PIP) install "mpmath==1.3.0" jsonschema
	@touch $@
