# Two commands are enough: `make book` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Threads that wait sleep instead of spinning; see emibook/cli.py.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: book test test-slow check-site lint bench clean

book: $(STAMP)
	$(BIN)/emibook book

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

check-site: $(STAMP)
	$(BIN)/python -m pytest tests/site

lint: $(STAMP)
	$(BIN)/ruff check .

bench: $(STAMP)
	mkdir -p benchmarks/results; set -e; for table in startup drawing preprocess extract engine train; do \
	  $(BIN)/python benchmarks/$$table.py > benchmarks/results/$$table.new; \
	  mv benchmarks/results/$$table.new benchmarks/results/$$table.txt; cat benchmarks/results/$$table.txt; done

clean:
	rm -rf .venv _build work book/executed book/generated notebooks/*.ipynb notebooks/exercises emibook.egg-info

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(None if ok else f"emibook needs Python 3.11 to 3.13, $(PYTHON) is {sys.version.split()[0]}: say make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable .[book,test]
	touch $@
