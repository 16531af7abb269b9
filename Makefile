SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
CODE := redir frontends passes backends
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
PLUGIN := ../docs/examples/redir_plugin
PYTEST := $(BIN)/python -m pytest
MYPY := ../$(BIN)/mypy --config-file ../pyproject.toml --strict

.PHONY: help demo test check lint types docs bench architectures nightly format

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

# The stamps lie inside .venv, so that making it anew drops them.
.venv/dev.stamp: pyproject.toml constraints.txt
	@echo "Setting up .venv, which takes minutes the first time."
	$(PYTHON) -m venv --clear .venv
	$(PIP_INSTALL) -e '.[dev,ort,cli,plot,images,report,dask]'
	touch $@

.venv/torch.stamp: .venv/dev.stamp
	$(PIP_INSTALL) -e '.[dev,ort,cli,plot,images,report,dask,torch]'
	touch $@

.venv/docs.stamp: .venv/dev.stamp
	$(PIP_INSTALL) -e '.[dev,ort,cli,plot,images,report,dask,docs]'
	touch $@

demo: .venv/dev.stamp  ## compress the model that ships with redir
	$(BIN)/redir demo

# Each of the two workers has a core: with more threads they would wait for each other.
test nightly: export OMP_NUM_THREADS := 1
# Tests start many processes, each of which would compile all of redir again.
test nightly: export PYTHONDONTWRITEBYTECODE :=

test: .venv/torch.stamp  ## run the tests
	$(PYTEST) -n 2 --dist worksteal --ignore=tests/benchmarks

check: lint types test  ## everything a change must pass

lint: .venv/dev.stamp  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/dev.stamp  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# mypy follows no package-dir: it is given a tree of links, and must have checked every file.
types: .venv/dev.stamp  ## mypy --strict over code, tests and examples
	@rm -rf .typing/redir .typing/tests .typing/docs .typing/redir_shifts
	@for file in $$(find $(CODE) -name '*.py'); do \
		link=".typing/redir/$${file#redir/}"; \
		mkdir -p "$${link%/*}"; \
		ln -s "$(CURDIR)/$$file" "$$link"; \
	done
	@ln -s ../tests ../docs $(PLUGIN)/src/redir_shifts .typing
	cd .typing && $(MYPY) -p redir | tee package.log
	@checked=$$(sed -n 's/.* in \([0-9]*\) source file.*/\1/p' .typing/package.log); \
	found=$$(find $(CODE) -name '*.py' | wc -l); \
	test "$$checked" -eq "$$found" || { echo "mypy checked $$checked of $$found files" >&2; exit 1; }
	cd .typing && $(MYPY) tests redir_shifts docs/examples/redir_plugin/show.py $$(find docs/examples -maxdepth 1 -name '*.py')

docs: .venv/docs.stamp  ## run every snippet of the documentation, and make the site in build/docs
	$(PYTEST) tests/test_docs.py tests/test_links.py
	$(BIN)/python -m sphinx -qEW --keep-going -b html -c docs . build/docs
	@echo 'The site is in build/docs/index.html.'

bench: .venv/torch.stamp  ## measure on real models
	$(PYTEST) -m bench tests/benchmarks -s

architectures: .venv/torch.stamp  ## every torchvision architecture, there and back and pruned (takes hours)
	$(PIP_INSTALL) --no-deps torchvision pillow onnxscript onnx_ir
	$(PYTEST) -m bench tests/benchmarks/test_torchvision.py tests/benchmarks/test_architectures.py -s

nightly: .venv/torch.stamp  ## all tests but the benchmarks, with many more examples
	HYPOTHESIS_PROFILE=nightly $(PYTEST) -n 2 --dist worksteal --ignore=tests/benchmarks -m ''
