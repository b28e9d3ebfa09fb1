# What one types here. It needs GNU make (3.81 or newer, so the one on macOS will do) and a Python.
# Everything it makes stays in this folder; only pip and npm keep their downloads in caches of theirs.

VENV ?= .venv

# Two targets of `make -j` would install into one environment at the same time.
.NOTPARALLEL:
.PHONY: help demo test check docs coverage bench system-deps clean

# Starts a recipe: finds a Python, and brings the environment up to date with these extras.
environment = @python=$$(sh .ci/find-python) && "$$python" .ci/environment.py "$(VENV)"
python = $(VENV)/bin/python
node_packages = @sh .ci/node-packages tests/gradio

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## Run the demo on port 8080 (PORT=9000 for another)
	$(environment) demo
	@$(python) examples/demo.py

test: ## Run the tests on all cores (ARGS="-k name -x" goes to pytest; ARGS="-n 0" is one after the other)
	$(environment) test demo
	$(node_packages)
	@$(python) -m pytest -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

check: docs ## Check format, lint, types and docs
	$(environment) test check
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy

docs: ## Build the documentation into docs/_build
	$(environment) docs
	@$(python) -m sphinx -W -q -b html docs docs/_build
	@echo "The documentation is in docs/_build/index.html"

coverage: ## Run the tests and list the branches they miss
	$(environment) test demo
	$(node_packages)
	@$(python) -m coverage run -m pytest $(ARGS)
	@$(python) -m coverage report

bench: ## Measure aioqueue against others and doing it by hand (QUICK=1 in under 3 minutes)
	$(environment) bench
	@$(python) -m benchmarks $(if $(QUICK),--quick) $(ARGS)

system-deps: ## Install what only root can install
	@sh .ci/system-deps

clean: ## Remove everything that make made, .venv included
	rm -rf .venv .venvs .bench build dist docs/_build docs/_generated tests/gradio/node_modules *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
