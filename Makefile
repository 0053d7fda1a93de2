# The commands of this repository. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIN := $(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host
NAME ?= cpt
NODES ?= 1

.PHONY: help setup cluster cluster-down demo programs evaluation-data test test-slow test-fast check format crds docs constraints bench simulate

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# torch alone is about 3 GB; everything is pinned with hashes, so this is the same on every machine
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "installing the Python packages into .venv (first time about 3 GB, 3 minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	@touch $@

setup: .venv/installed ## install the Python packages into .venv

cluster: setup ## a real Kubernetes node on this machine with S3, Prometheus, training-operator and our chart (NAME=cpt NODES=1)
	$(BIN)/python -m cpt_local up --name $(NAME) --nodes $(NODES)

cluster-down: setup ## remove it without a trace
	$(BIN)/python -m cpt_local down --name $(NAME)

demo: setup ## the main job on real text: from three texts to a model, and the report (about 15 minutes)
	$(BIN)/python examples/demo/run.py --cluster $(NAME) --nodes $(NODES)

# what only tests need: a browser, in which the report is opened, a builder of images and of the Debian below them, and
# Prometheus; a cluster installs the last two by itself
programs:
	@command -v chromium buildah mmdebstrap promtool | wc -l | grep -qx 4 || { echo "installing chromium, buildah, mmdebstrap and prometheus"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -qq --no-install-recommends chromium buildah mmdebstrap prometheus >/dev/null; }

# real benchmarks and a small real model, and the harness that scores are held against; kept outside of the repository
evaluation-data: setup
	PYTHONPATH=tests $(BIN)/python -m evaluation_data

test: check programs evaluation-data ## everything that CI runs
	$(BIN)/pytest --numprocesses 3 --no-loadscope-reorder

test-slow: setup programs evaluation-data ## what takes most of an hour more: a real model's scores against the reference, the real Kueue, the trainer's image
	PYTHONPATH=tests $(BIN)/python -m smollm2
	$(BIN)/pytest -m slow

test-fast: setup ## pure functions only, in two minutes
	$(BIN)/pytest --numprocesses 2 -m "not processes and not cluster and not e2e and not slow"

check: setup ## format, lint, types, import rules, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m cpt_api.crdgen --check
	$(BIN)/python -m cpt_api.docs --check
	$(BIN)/python -m cpt_operator.docs --check
	$(BIN)/python -m cpt_dashboards --check

format: setup ## format and sort
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

crds: setup ## generate the CRDs, the pages of reasons, exit codes and metrics, and the dashboards, from the code
	$(BIN)/python -m cpt_api.crdgen
	$(BIN)/python -m cpt_api.docs
	$(BIN)/python -m cpt_operator.docs
	$(BIN)/python -m cpt_dashboards

constraints: setup ## pin every package anew, with hashes
	$(PIN) --upgrade --extra dev --output-file constraints.txt pyproject.toml
	sed -i '/^# WARNING: pip install/d; /^# Consider using a hashable/d; /^cpt-experiments @/,/# via cpt-experiments/d' constraints.txt
	@# what each image installs: its extra's part of the same pins
	$(PIN) --constraint constraints.txt --extra operator --output-file operator/requirements.txt pyproject.toml
	$(PIN) --constraint constraints.txt --extra trainer --output-file trainer_image/requirements.txt pyproject.toml

simulate: setup ## the decisions' claims on 30,000 simulated experiments; writes docs/evidence (about 2 hours)
	PYTHONPATH=tests $(BIN)/python -m simulator

bench: setup ## one benchmark against its peer (NAME=train_overhead)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run $(NAME)
