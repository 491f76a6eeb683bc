# `make demo` and `make test` work on a fresh machine with Python >= 3.10, make and pip: they set everything up first.
# An active virtual or conda environment is used; otherwise .venv is made here, with PYTHON.

PYTHON ?= python3
WORKERS ?= 2
ENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),.venv)
PY := "$(ENV)/bin/python"
STAMP := "$(ENV)/.editbench-setup"

# What the environment was made from: it is made again when this checkout's pyproject.toml changes, or when another
# checkout has taken the environment over.
MADE_FROM := { pwd; cksum < pyproject.toml; }

CHECK_VERSION := import sys; sys.exit(0 if sys.version_info >= (3, 10) else "editbench needs Python 3.10 or newer, \
	but %s is %s: leave the old environment, or name a newer Python: make PYTHON=/path/to/python3" % (sys.executable, sys.version.split()[0]))
HAS_TORCH := import sys, torch; sys.exit([int(n) for n in torch.__version__.split(".")[:2]] < [2, 6])

.DEFAULT_GOAL := help
.PHONY: help setup environment demo test test-fast test-slow test-ray torture compat lint types bench bench-edit pocket networks docs docs-pictures clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## Install editbench and its dependencies (nothing to do until pyproject.toml changes)
	@$(MADE_FROM) | cmp -s - $(STAMP) || $(MAKE) --no-print-directory environment

demo: setup ## Run six methods on the embedded world and model: table, curves, what they say
	@$(PY) -m editbench.cli demo

test: setup lint types ## Run lint, type checks and all tests but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) -m "not slow"

test-fast: setup ## Run the tests that need no model, process, browser or build: under a minute
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) -m "not slow and not model"

test-slow: setup ## Run the slow tests: commands, docs, wheels, browser
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile -m slow

test-ray: setup ## Run a sweep on a real Ray of two workers (installs Ray)
	$(PY) -m pip install --quiet -e ".[ray]"
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/commands/test_launcher_ray.py

compat: setup ## Run what depends on transformers with the oldest versions allowed, and with the newest
	OMP_NUM_THREADS=1 $(PY) -m tests.compat

lint: setup ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup ## Check types
	$(PY) -m mypy editbench methods

torture: setup ## Kill, starve, damage and confuse runs in every way (hours; SECONDS=600 for a part)
	OMP_NUM_THREADS=1 $(PY) -m tests.torture --write $(if $(SECONDS),--seconds $(SECONDS))

bench: setup ## Measure speed and memory beside the plain implementations
	$(PY) -m benchmarks

bench-edit: setup ## Measure the editors alone, at a larger size
	$(PY) -m benchmarks.bench_edit

pocket: setup ## Train the embedded models again, and the networks for them
	$(PY) -m editbench.pocket.train_models
	@$(MAKE) --no-print-directory networks

networks: setup ## Train the shipped networks of MEND and RLEdit for the embedded models again
	@for method in mend rledit; do for model in pocket pocket-gpt2; do \
		OMP_NUM_THREADS=1 $(PY) -m editbench.cli train method=$$method model=$$model dataset=counterfact \
			--out methods/$$method/networks/$$model-counterfact.safetensors || exit 1; \
	done; done

docs: setup ## Build the documentation in site/
	@$(PY) -c 'import material' 2>/dev/null || $(PY) -m pip install -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo "open site/index.html; with its search: $(ENV)/bin/python -m mkdocs serve"

docs-pictures: setup ## Make the documentation's pictures and tables again, from the source and the reference rows
	$(PY) docs/architecture_picture.py
	$(PY) docs/demo_tables.py
	$(PY) docs/growth_picture.py
	$(PY) docs/study_tables.py
	$(PY) docs/tables.py

clean: ## Remove what was built and cached (the environment stays)
	rm -rf build dist site .compat *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find editbench methods conf tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Makes .venv if there is no environment. Some systems ship Python without ensurepip, and then pip comes from outside.
# A torch that is there is kept; else one that pip finds locally is preferred to a download.
environment:
	@if $(PY) -m pip --version >/dev/null 2>&1; then :; \
	elif [ "$(ENV)" != .venv ]; then \
		echo "The active environment $(ENV) has no Python with pip: deactivate it, or add pip to it." >&2; exit 1; \
	else \
		command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): make PYTHON=/path/to/python3" >&2; exit 1; }; \
		"$(PYTHON)" -c '$(CHECK_VERSION)' || exit 1; \
		site=; if "$(PYTHON)" -c '$(HAS_TORCH)' 2>/dev/null; then site=--system-site-packages; fi; \
		echo "Making .venv $$site"; \
		"$(PYTHON)" -m venv --clear $$site .venv >/dev/null 2>&1 \
		|| { "$(PYTHON)" -m venv --clear --without-pip $$site .venv \
			&& "$(PYTHON)" -m pip --python .venv/bin/python install --quiet --ignore-installed pip; } >/dev/null 2>&1 \
		|| { rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment: install its venv module (python3-venv" \
			"on Debian and Ubuntu), or activate an environment of your own." >&2; exit 1; }; \
	fi
	@$(PY) -c '$(CHECK_VERSION)'
	@$(PY) -c '$(HAS_TORCH)' 2>/dev/null || $(PY) -m pip install --no-index --no-deps "torch>=2.6" 2>/dev/null || true
	$(PY) -m pip install -e ".[dev]"
	@$(MADE_FROM) > $(STAMP)
