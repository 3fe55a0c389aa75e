# The verbs of this project. Everything is installed from the locked requirements into a virtual environment of make's own.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-console dev test simulate mutants check accuracy bench bench-hearing bench-metrics bench-join bench-against bench-console soak assets docs pictures linkcheck audit sbom lock clean

# The first Python on the PATH that is new enough; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# make marks the environments that it makes, and deletes no other. If .venv is not make's, its own is build/venv.
MARK := made-by-make
VENV := $(shell if cmp -s requirements-dev.txt .venv/ready || [ ! -e .venv ] && [ ! -L .venv ]; then echo .venv; \
	elif [ ! -L .venv ] && { [ -e .venv/$(MARK) ] || [ -e .venv/ready ]; }; then echo .venv; else echo build/venv; fi)
READY := $(VENV)/ready
RUN := $(VENV)/bin/python
# These show what the pure core does: the run prints which of its lines and branches they reach.
CORE := tests/gatekeeping tests/policies tests/unit
# The heart of it; with less than this share of its lines and branches reached by examples, the run fails. What Hypothesis
# reaches by chance doesn't count (tests/conftest.py).
HEART := bouncer/*.py,bouncer/guard/*.py,bouncer/configuration/*.py,policies/*.py
REACHED := 100
# Several tests at a time on however many processors: the long ones mostly wait. In the order that tests/conftest.py gives.
SIDE_BY_SIDE := --dist loadgroup --no-loadscope-reorder --numprocesses
# Then those that play and hear in real time, which a busy machine can't. pytest's status if ARGS chooses none of them:
NONE_CHOSEN := 5
# Fetched when they are needed; nothing else uses them.
PIP_AUDIT := pip-audit==2.10.1
CYCLONEDX := cyclonedx-bom==7.5.0
# Every warning is an error, in every page and every time. The build needs no network.
SPHINX := --quiet --fail-on-warning --nitpicky --fresh-env

# Where npm is missing, the console's page says what to do.
ASSETS := [ -e gatekeeper/page/vendor/preact.js ] || ! command -v npm >/dev/null || $(MAKE) --no-print-directory assets || true

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: $(READY) ## Show a bouncer at work on a real LiveKit server, in under a minute
	@$(RUN) -m demo

demo-console: $(READY) ## The same, to be followed in the browser, in the gatekeeper's console
	@$(ASSETS)
	@$(RUN) -m demo console

dev: $(READY) ## Run a LiveKit server with a bouncer for every room, and say how to join
	@$(ASSETS)
	@$(RUN) -m demo dev

test: $(READY) ## Run all tests, the end-to-end ones on a real LiveKit server (ARGS="-k duplicates" for some)
	@$(RUN) -m devserver
ifdef ARGS
	$(RUN) -m pytest $(SIDE_BY_SIDE) 4 -m "not realtime" $(ARGS) || [ $$? -eq $(NONE_CHOSEN) ]
else
	$(RUN) -m pytest $(SIDE_BY_SIDE) 3 $(CORE) --cov
	$(RUN) -m coverage report --include='$(HEART)' --fail-under=$(REACHED)
	$(RUN) -m pytest $(SIDE_BY_SIDE) 6 -m "not realtime" $(addprefix --ignore=,$(CORE))
endif
	$(RUN) -m pytest --numprocesses 3 -m realtime $(ARGS) || [ $$? -eq $(NONE_CHOSEN) ]

simulate: $(READY) ## Play rooms on a simulated LiveKit (ROOMS=10000 FROM=0), or one with its trace (SEED=123)
	@$(RUN) -m tests.simulation $(if $(SEED),--seed $(SEED),--rooms $(or $(ROOMS),10000) --from $(or $(FROM),0)) \
		$(if $(DIGESTS),--digests $(DIGESTS)) $(if $(AGAINST),--against $(AGAINST))

mutants: $(READY) ## Put one bug after the other into the engine, and see each caught by the simulation
	@$(RUN) -m tests.simulation.mutants

check: $(READY) ## Lint, formatting, types, the rule of who may import what, and the documents
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m sphinx $(SPHINX) -b html docs build/docs

accuracy: $(READY) ## Compare what hearing tells with what was played: what it finds, and how late
	@$(RUN) -m benchmarks.accuracy

bench-hearing: $(READY) ## Measure what hearing costs, in CPU and memory (ARGS=16 for other than 8 publishers)
	@$(RUN) -m benchmarks.hearing $(ARGS)

bench: $(READY) ## Measure what guarding costs, in ratios (ARGS="decide gone" for some of decide recheck burst crowd replay gone idle rooms flood neighbours leak)
	@$(RUN) -m benchmarks.bench $(ARGS)

bench-join: $(READY) ## Compute the agent minutes that `--join when-needed` saves, and measure what it delays (ARGS=--computed for the former)
	@$(RUN) -m benchmarks.join $(ARGS)

bench-against: $(READY) ## Compare speed, memory and CPU with an earlier commit (REV=HEAD~1), both in one run
	@$(RUN) -m benchmarks.against $(or $(REV),HEAD~1)

bench-console: $(READY) ## Measure the console with 2,000 rooms: first view, updates, scrolling, what an open page costs
	@$(RUN) -m benchmarks.console

bench-metrics: $(READY) ## Measure what metrics cost, as a share of a worker's CPU
	@$(RUN) -m benchmarks.metrics

soak: $(READY) ## Open and close real rooms for minutes while servers and bouncers fail (MINUTES=30 for longer)
	@$(RUN) -m tests.soak $(MINUTES)

assets: ## Put the console's libraries where its page finds them, from npm as package-lock.json says
	@cd gatekeeper/page && npm ci --silent --ignore-scripts --no-audit --no-fund && mkdir -p vendor && \
		cp node_modules/preact/dist/preact.module.js vendor/preact.js && \
		cp node_modules/preact/hooks/dist/hooks.module.js vendor/hooks.js && \
		cp node_modules/htm/dist/htm.module.js vendor/htm.js && \
		cp node_modules/preact/LICENSE vendor/preact.LICENSE && cp node_modules/htm/LICENSE vendor/htm.LICENSE && \
		rm -rf node_modules

docs: $(READY) ## Write what is generated from the policies, and build the documents into build/docs
	$(RUN) -m bouncer write
	$(RUN) -m sphinx $(SPHINX) -b html docs build/docs

pictures: $(READY) ## Draw the documents' pictures of the commands and the console again
	@$(RUN) -m demo.pictures
	@$(RUN) -m demo.screens

linkcheck: $(READY) ## See that the documents' links to other sites lead somewhere
	$(RUN) -m sphinx $(SPHINX) -b linkcheck docs build/linkcheck

audit: $(READY) ## Look up the locked packages among known vulnerabilities, where there is data to do so
	@$(RUN) -m uv run --no-project --quiet --with $(PIP_AUDIT) python .ci/audit.py requirements.txt

sbom: $(READY) ## Write build/sbom.json: what a worker is made of, in CycloneDX
	@mkdir -p build
	@$(RUN) -m uv tool run --quiet --from $(CYCLONEDX) cyclonedx-py requirements requirements.txt \
		--pyproject pyproject.toml --output-reproducible --output-file build/sbom.json
	@echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) packages"

lock: $(READY) ## Write the requirements files from pyproject.toml (ARGS=--upgrade for the newest versions)
	@for file in requirements.txt requirements-gatekeeper.txt requirements-dev.txt; do \
		case $$file in \
			requirements.txt) group=;; \
			*gatekeeper.txt) \
				beyond=$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package=\1/p' requirements.txt); \
				group="--extra gatekeeper --constraint requirements.txt $$beyond";; \
			*) group="--extra gatekeeper --extra replay --extra watch --group dev --constraint requirements.txt --constraint requirements-gatekeeper.txt";; \
		esac; \
		$(RUN) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command "make lock" $$group $(ARGS) pyproject.toml -o $$file || exit 1; \
	done

clean: ## Remove make's virtual environment and what the tools left; the LiveKit server that was built stays
	@if [ "$(VENV)" = .venv ] && [ ! -L .venv ]; then rm -rf .venv; fi
	rm -rf build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find agent.py benchmarks bouncer gatekeeper policies demo devserver tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Made again when the requirements have changed, not whenever their date has. uv fetches several packages at a time; it
# checks the same hashes, but doesn't know pip's settings (an index or a certificate of one's own).
$(READY): requirements-dev.txt
	@if cmp -s $< $@; then touch $@; exit; fi; \
	if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed, and none is on the PATH. With one elsewhere: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	[ $(VENV) = .venv ] || echo "leaving .venv alone, because make didn't make it"; \
	echo "setting up $(VENV) with $$($(PYTHON) --version)"; \
	rm -rf $(VENV); \
	mkdir -p $(VENV) && touch $(VENV)/$(MARK); \
	$(PYTHON) -m venv $(VENV) || { echo "Python has no venv module: install it (Debian: apt install python3-venv)" >&2; exit 1; }; \
	echo "  fetching and installing $$(grep -c '==' $<) packages"; \
	pip="$(RUN) -m pip --disable-pip-version-check install --quiet --require-hashes --requirement"; \
	$$pip <(sed -n '/^uv==/,/[^\\]$$/p' $<) && \
	$(RUN) -m uv pip install --quiet --python $(RUN) --compile-bytecode --require-hashes --requirement $< || { \
		echo "  with pip, one after the other, because uv could not"; \
		$$pip $<; \
	} || { rm -rf $(VENV); exit 1; }; \
	cp $< $@
