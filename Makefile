# The verbs of this project. Everything is installed into .venv, from the locked requirements; nothing else is touched.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo dev test simulate mutants check accuracy bench-hearing soak docs lock clean

# The first Python on the PATH that is new enough; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := .venv/bin/python
# Four tests at a time on however many processors: the long ones mostly wait. In the order that tests/conftest.py gives them.
SIDE_BY_SIDE := --numprocesses 4 --dist loadgroup --no-loadscope-reorder
# Then those that play and hear in real time, which a busy machine can't. pytest's status if ARGS chooses none of them:
NONE_CHOSEN := 5

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: .venv/ready ## Show a bouncer at work on a real LiveKit server, in under a minute
	@$(RUN) -m demo

dev: .venv/ready ## Run a LiveKit server and a bouncer, and say how to join
	@$(RUN) -m demo dev

test: .venv/ready ## Run all tests, the end-to-end ones on a real LiveKit server (ARGS="-k duplicates" for some)
	@$(RUN) -m demo.server
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m "not realtime" $(ARGS) || [ $$? -eq $(NONE_CHOSEN) ]
	$(RUN) -m pytest --numprocesses 2 -m realtime $(ARGS) || [ $$? -eq $(NONE_CHOSEN) ]

simulate: .venv/ready ## Play rooms on a simulated LiveKit (ROOMS=10000 FROM=0), or one with its trace (SEED=123)
	@$(RUN) -m tests.simulation $(if $(SEED),--seed $(SEED),--rooms $(or $(ROOMS),10000) --from $(or $(FROM),0))

mutants: .venv/ready ## Put one bug after the other into the engine, and see each caught by the simulation
	@$(RUN) -m tests.simulation.mutants

check: .venv/ready ## Lint, formatting, types, and the rule of who may import what
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	.venv/bin/lint-imports

accuracy: .venv/ready ## Compare what hearing tells with what was played: what it finds, and how late
	@$(RUN) -m benchmarks.accuracy

bench-hearing: .venv/ready ## Measure what hearing costs, in CPU and memory (ARGS=16 for other than 8 publishers)
	@$(RUN) -m benchmarks.hearing $(ARGS)

soak: .venv/ready ## Open and close real rooms for minutes while servers and bouncers fail (MINUTES=30 for longer)
	@$(RUN) -m tests.soak $(MINUTES)

docs: .venv/ready ## Write what is made from the policies: their pages in README.md, and bouncer.schema.json
	$(RUN) -m bouncer write

lock: .venv/ready ## Write the requirements files from pyproject.toml (ARGS=--upgrade for the newest versions)
	@for file in requirements.txt requirements-dev.txt; do \
		extra=; [ $$file = requirements.txt ] || extra="--extra dev --constraint requirements.txt"; \
		$(RUN) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command "make lock" $$extra $(ARGS) pyproject.toml -o $$file || exit 1; \
	done

clean: ## Remove the virtual environment and what the tools left; the LiveKit server that was built stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find agent.py benchmarks bouncer policies demo tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Made anew when the requirements say something new, not whenever their date changes.
.venv/ready: requirements-dev.txt
	@if cmp -s $< $@; then touch $@; exit; fi; \
	if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed, and none is on the PATH. With one elsewhere: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "setting up .venv with $$($(PYTHON) --version)"; \
	rm -rf .venv; \
	$(PYTHON) -m venv .venv || { echo "Python has no venv module: install it (Debian: apt install python3-venv)" >&2; exit 1; }; \
	all=$$(grep -c '==' $<); n=0; \
	set -o pipefail; \
	$(RUN) -m pip --disable-pip-version-check install --require-hashes --requirement $< | while read -r what name rest; do \
		case $$what in \
			Collecting) n=$$((n + 1)); [ $$((n % 10)) -ne 0 ] || echo "  fetched $$n of $$all packages, $${name%%=*}";; \
			Installing) echo "  installing them";; \
		esac; \
	done || { rm -rf .venv; exit 1; }; \
	cp $< $@
