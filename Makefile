# make bench BENCH=scan runs scripts/bench/scan.py; results go to runs/, which git ignores.
BENCH ?= training

.PHONY: test lint bench docs

test:
	pytest

lint:
	ruff check .
	ruff format --check .
	mypy

bench:
	mkdir -p runs
	python -m scripts.bench.$(BENCH) --out runs/bench_$(BENCH).json

docs:
	mkdocs build --strict
