# make bench BENCH=scan runs scripts/bench_scan.py; results go to runs/, which git ignores.
BENCH ?= training

.PHONY: test lint bench

test:
	pytest

lint:
	ruff check .
	ruff format --check .
	mypy

bench:
	mkdir -p runs
	python scripts/bench_$(BENCH).py --out runs/bench_$(BENCH).json
