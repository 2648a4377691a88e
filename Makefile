# Two commands: `make demo` sets everything up and runs a real sweep, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEMO := examples/digits

.PHONY: demo test check bench clean

# The stamp is written last: an interrupted set-up is done again.
$(READY): pyproject.toml
	@echo "setting up $(VENV) (about a minute, once)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY)
	@cd $(DEMO) && ../../$(VENV)/bin/lx plan sweep_all && ../../$(VENV)/bin/lx run sweep_all && ../../$(VENV)/bin/lx compare
	@echo "Try next, in $(DEMO) (after: . $(VENV)/bin/activate):"
	@echo "  lx run mlp hp.model=wide hp.lr=0.003,0.001    a sweep made on the command line"
	@echo "  lx show mlp hp.lr=0.1 --sources               where every value comes from"
	@echo "  lx logs, lx ls, lx diff linear mlp            what happened, what differs"

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -n auto -m "not (browser or docker or gpu or swarm or s3 or nfs or kubernetes or slurm or ray)"
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report

bench: $(READY)
	$(VENV)/bin/python -m benchmarks

clean:
	rm -rf $(VENV)
