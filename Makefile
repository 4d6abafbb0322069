# Everything a fresh machine with Python, make and a package index needs. `make` lists the targets.

VENV ?= .venv
TORCH ?= auto
PYTHON ?=
BIN = $(VENV)/bin
SOAK_MINUTES ?= 30
SOAK_CASES ?= 500
SOAK_KILLS ?= 400
SOAK_AGENTS ?= 500

# Results and timings repeat on one thread; more threads than cores only slow the tests down.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1
# Hundreds of processes import our packages: without bytecode files each would compile them again.
PYTEST = $(ONE_THREAD) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# Half of the tests wait for processes and clocks, so three at once take little more than a third of
# the time, on two cores.
AT_ONCE ?= 3
IN_PARALLEL = --numprocesses $(AT_ONCE) --dist worksteal
SET_UP = python=$$(PYTHON='$(PYTHON)' sh installers/environment/find_python.sh $(VENV)) && \
	"$$python" installers/environment/setup_env.py $(VENV) --torch $(TORCH)
BENCHMARK_NAMES = from importlib.util import find_spec; from benchmarks.__main__ import MODULES; \
	print(*(name for name, module in MODULES.items() if find_spec(module)))
INPUTS = pyproject.toml constraints.txt

.PHONY: help setup demo demo-stop test test-system check format coverage bench soak clean distclean

help:
	@echo "make demo         train a shared model with a coordinator, two agents and three liars on this PC"
	@echo "                  (KEEP=1 leaves it running afterwards)"
	@echo "make demo-stop    stop a demo that was left running"
	@echo "make test         the tests (about 20 minutes on two cores; AT_ONCE=2 runs two at a time)"
	@echo "make test-system  the tests that need Debian packages, which it installs"
	@echo "make check        ruff, mypy, import-linter"
	@echo "make format       let ruff format the code and fix what it can"
	@echo "make coverage     the tests with branch coverage"
	@echo "make bench        each benchmark, about a minute each"
	@echo "make soak         fuzzes every reader of strangers' bytes, kills agents, kills and"
	@echo "                  starves coordinators, lets a fleet send for long, repeats the e2e tests"
	@echo "                  (SOAK_CASES=500 of each operator, SOAK_RUNS=N inputs of each reader,"
	@echo "                  SOAK_KILLS=400 of a coordinator on each store, SOAK_AGENTS=500 in the fleet,"
	@echo "                  SOAK_MINUTES=30 of its traffic, of killing agents and of the tests)"
	@echo "make setup        only build the environment"
	@echo "make clean        remove what was built and cached; distclean: the environment too"
	@echo
	@echo "PYTHON=python3.12  the Python to make the environment with"
	@echo "VENV=folder        where the environment is (.venv)"
	@echo "TORCH=auto|cpu|pip any CPU build | PyTorch's own CPU index | whatever pip takes"

# An environment with the development tools also serves the demo: setup_env.py stamps both.
$(VENV)/.stamp-all: $(INPUTS)
	@$(SET_UP)

$(VENV)/.stamp-dev: $(INPUTS)
	@$(SET_UP) --dev

setup: $(VENV)/.stamp-dev

demo: $(VENV)/.stamp-all
	@$(BIN)/pleb-project demo $(if $(filter-out 0,$(KEEP)),--keep)

demo-stop: $(VENV)/.stamp-all
	@$(BIN)/pleb-project demo --stop

test: $(VENV)/.stamp-dev
	$(PYTEST) $(IN_PARALLEL) -m "not system"

test-system: $(VENV)/.stamp-dev
	@sh installers/environment/install_debian_packages.sh
	$(PYTEST) -m system

check: $(VENV)/.stamp-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

coverage: $(VENV)/.stamp-dev
	$(PYTEST) $(IN_PARALLEL) -m "not system" --cov --cov-report=term-missing

bench: $(VENV)/.stamp-dev
	@names=$$($(BIN)/python -c '$(BENCHMARK_NAMES)') && for name in $$names; do \
		echo "== $$name" && $(BIN)/python -m benchmarks $$name --quick || exit 1; \
	done

soak: $(VENV)/.stamp-dev
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group soak || \
		echo "atheris cannot be installed here: inputs are changed without guidance"
	$(BIN)/python -m tests.soak.operators --cases $(SOAK_CASES)
	$(BIN)/python -m tests.soak --keep $(if $(SOAK_RUNS),--runs $(SOAK_RUNS))
	$(ONE_THREAD) $(BIN)/python -m tests.soak.faults --kills $(SOAK_KILLS)
	$(ONE_THREAD) $(BIN)/python -m tests.soak.agents --minutes $(SOAK_MINUTES)
	$(ONE_THREAD) $(BIN)/python -m tests.soak.traffic --agents $(SOAK_AGENTS) --minutes $(SOAK_MINUTES)
	@end=$$(($$(date +%s) + 60 * $(SOAK_MINUTES))); while [ $$(date +%s) -lt $$end ]; do \
		$(PYTEST) -m e2e --exitfirst --quiet || exit 1; \
	done

clean:
	rm -rf build dist htmlcov .coverage .coverage.* coverage.xml
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@for folder in agent benchmarks coordinator examples installers shared tests; do \
		[ ! -d $$folder ] || find $$folder -name __pycache__ -type d -prune -exec rm -rf {} +; \
	done

distclean: clean
	@[ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
