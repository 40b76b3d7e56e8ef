# Everything that a person types, each target with one line of help: `make help`.
# `setup` needs git, make and Python 3.11 or later with venv, and installs the rest into .venv, from a lock file.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STDLIB = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*##.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: .venv/installed  ## make .venv with the loop-runner command in it

.venv/installed: pyproject.toml requirements/dev.txt
	@if [ -z "$(PYTHON)" ]; then echo "loop-runner needs Python 3.11 or later with the venv module." >&2; \
	echo "Debian and Ubuntu: apt-get install python3 python3-venv; or make setup PYTHON=/path/to/python3" >&2; exit 1; fi
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock: setup  ## renew requirements/*.txt with the newest versions, and install them
	$(BIN)/python -m tests.versions lock
	$(MAKE) --no-print-directory setup

demo: setup  ## fetch the local model (1.1 GB, once) and answer a question over Python's own sources
	$(BIN)/loop-runner models fetch coder
	$(BIN)/loop-runner run examples/stdlib-questions/task.yaml --input "$(STDLIB)"

questions: setup  ## ten questions over the same sources, as a table
	$(BIN)/loop-runner models fetch coder
	$(BIN)/python examples/stdlib-questions/ask_all.py

audit-proof: setup  ## audit Python's own sources, by script and by the local model (60 places); precision and recall
	$(BIN)/loop-runner models fetch coder
	$(BIN)/python -m tests.audit_proof

test: setup  ## run the tests (no model, no key, no network), but for test-sandbox, test-adversary, test-clients and test-crash
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not real_model' $(or $(TESTS),--ignore=tests/escapes --ignore=tests/adversary --ignore=tests/clients --ignore=tests/crash)

test-fast: setup  ## the tests that take a fraction of a second each, of every part: two minutes
	$(BIN)/python -m pytest -q -n 2 -m 'not real_model and not slow' --ignore=tests/escapes --ignore=tests/adversary --ignore=tests/clients --ignore=tests/crash

test-machines: setup  ## a sample of the suite on other machines (no bubblewrap, ordinary user, LC_ALL=C, ...): a few minutes
	$(BIN)/python -m tests.machines

test-lowest: setup  ## run the tests (or TESTS=...) with the lowest versions allowed; name each dependency that breaks
	$(BIN)/python -m tests.versions lowest $(or $(TESTS),--ignore=tests/escapes --ignore=tests/clients --ignore=tests/crash)

test-newest: setup  ## the same with the newest versions allowed
	$(BIN)/python -m tests.versions newest $(or $(TESTS),--ignore=tests/escapes --ignore=tests/clients --ignore=tests/crash)

test-model: setup  ## run the tests that need the local model, fetched first
	$(BIN)/loop-runner models fetch coder
	$(BIN)/python -m pytest -m real_model -s

check: setup  ## format, lint, types, tests: what CI asks for
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

format: setup  ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write the true help, output and pictures into the documents
	$(BIN)/python -m tests.support.documents
	$(BIN)/python -m tests.support.notebooks

recording: setup  ## record docs/pictures/run.svg and watch.svg from a real terminal; needs tmux
	$(BIN)/python -m docs.record

site: setup  ## build the documentation as a site, into .cache/site; a link that leads nowhere is an error
	$(BIN)/python -m mkdocs build --strict

test-sandbox: setup  ## try a hundred ways out of the sandbox, in every tier, as root and as an ordinary user
	$(BIN)/python -m tests.escapes

test-portable: setup  ## what works without the features of Linux, such as on macOS
	$(BIN)/python -m pytest -q tests/test_portable.py

test-adversary: setup  ## attack the word "verified", as root and as an ordinary user, in tiers A and B
	$(BIN)/python -m tests.adversary

test-clients: setup  ## drive the real Claude Code and Codex (fetched once, 800 MB) against a loopback provider
	$(BIN)/python -m tests.clients

test-dashboard: setup  ## look at every page of the service's dashboard with Chromium and axe
	LOOP_RUNNER_EVERY_PAGE=1 $(BIN)/python -m pytest -q tests/serve/test_dashboard.py tests/serve/test_dashboard_browser.py

test-integrations: setup  ## use runs from PydanticAI and Inspect (in an environment of their own)
	$(BIN)/python -m tests.integration_packages

test-service-clients: setup  ## use the service with llm, LangChain, pydantic-ai and DSPy (in an environment of their own)
	$(BIN)/python -m tests.service_clients

test-crash: setup  ## break runs at named places, system calls and in any order: a sample, a few minutes
	$(BIN)/python -m pytest tests/crash

test-crash-full: setup  ## the same, every place, every call: half an hour and more
	$(BIN)/python -m tests.crash.walk
	$(BIN)/python -m tests.crash.sweep
	CRASH_REQUESTS=all CRASH_STATES=100 $(BIN)/python -m pytest tests/crash

test-crash-tools: setup  ## break a run with tools of each kind at every step of every call: half an hour
	$(BIN)/python -m tests.crash.tool_walk

test-mcp-servers: setup  ## call MCP servers from PyPI and npm through the client of the tools
	$(BIN)/python -m tests.mcp_servers

test-environments: setup  ## the main jobs in a hundred odd environments, every job in each: five minutes
	LOOP_RUNNER_EVERY_ENVIRONMENT=1 $(BIN)/python -m pytest tests/environments

test-pickles: setup  ## fifty kills and samples of test-crash beside each cloudpickle, and with none: twenty minutes
	$(BIN)/python -m tests.pickles

test-damage: setup  ## damage each file of a run's git folder in each way, repair, and run to the end: a minute and more
	LOOP_RUNNER_EVERY_DAMAGE=1 $(BIN)/python -m pytest -s tests/workspace/test_repair.py

serve-proof: setup  ## kill the service 50 times under load; nothing is lost or started twice (SERVE_MINUTES=10: 200 streams, too)
	$(BIN)/python -m tests.serve_proof --minutes $(or $(SERVE_MINUTES),0)

power-loss: setup  ## fail the power at each moment of a run, rebuild what a disk may hold, recover: five minutes and more
	$(BIN)/python -m tests.power_loss

long-run: setup  ## 1,000 passes through the run folder: size, and how long commits take
	$(BIN)/python -m tests.long_run

graphs: setup  ## kill and restore 300 random graphs of objects
	GRAPH_EXAMPLES=300 $(BIN)/python -m pytest tests/kernel/test_graphs.py

leaks: setup  ## 200 runs of the library in one process, some stopped or failed: no thread, process, descriptor or folder is left
	$(BIN)/python -m tests.api.leaks 200

soak: setup  ## 5,000 turns on one kernel, with kills and crashes; memory, descriptors, processes stay flat
	$(BIN)/python -m tests.soak --turns 5000

outline-proof: setup  ## count the headings that `outline` finds in three manuals and thirty changelogs
	$(BIN)/python -m tests.outline_proof

pdf-proof: setup  ## read a hundred real PDFs with PDFium and with pypdf: words that run together, pages without text, seconds
	$(BIN)/python -m tests.pdf_proof

test-inspect: setup  ## install inspect-ai beside the project, and open an exported log with it
	$(BIN)/python -m uv venv --quiet --allow-existing .cache/inspect
	$(BIN)/python -m uv pip install --quiet --python .cache/inspect/bin/python inspect-ai
	INSPECT_PYTHON=$(CURDIR)/.cache/inspect/bin/python $(BIN)/python -m pytest -q tests/report/test_transcripts.py tests/evals/test_inspect.py

test-terminal: setup  ## steer a run in two real terminals (tmux), from the start to a fork: two minutes
	$(BIN)/python -m tests.terminal_proof

report-proof: setup  ## write the report of a run of 1,000 passes: under 10 MB and 20 seconds
	$(BIN)/python -m tests.report_proof

eval: setup .cache/evals/peers  ## ask every question of the tuning half in six ways, and write evals/RESULTS.md: days on a CPU, continues
	$(BIN)/loop-runner models fetch coder
	$(BIN)/python -m evals run $(EVAL)

eval-quick: setup .cache/evals/peers  ## two questions per family and size, 10 and 100 kB; begins nothing after an hour
	$(BIN)/loop-runner models fetch coder
	$(BIN)/python -m evals run --questions 2 --sizes 10kB,100kB --minutes $(or $(EVAL_MINUTES),60) $(EVAL)

.cache/evals/peers:
	$(BIN)/python -m uv venv --quiet $@
	$(BIN)/python -m uv pip install --quiet --python $@/bin/python rlms dspy

fleet-proof: setup  ## kill, freeze and cut off the workers of a fleet of 200 jobs for twenty minutes (MINUTES=20 JOBS=200)
	$(BIN)/python -m tests.fleet_proof --jobs $(or $(JOBS),200) --minutes $(or $(MINUTES),20)

fleet-simulation: setup  ## play 1,000,000 jobs on 10,000 workers with the measured costs of both stores: the first bottleneck
	$(BIN)/python -m bench.fleet_simulation

bench: setup  ## measure, and print medians
	$(BIN)/python -m bench

workbench: setup  ## play nine tasks by scripted models, full inputs; write tokens per task to bench/WORKBENCH.md
	$(BIN)/python -m tests.workbench

wheel-test: setup  ## build a wheel and run it from an empty directory
	$(BIN)/python -m pytest tests/repository/test_wheel.py

clean:  ## remove what was made here, the fetched model excepted
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
