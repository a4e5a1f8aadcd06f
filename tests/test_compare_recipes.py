"""The digests of recipes: what they follow, and that those of committed results belong to the shipped grids."""

from pathlib import Path

import pytest
import yaml

from scripts.compare import grid as compare_grid
from scripts.compare import results as compare_results
from scripts.compare import run as compare_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("second", "same"), [("new.place.Norm", True), ("new.place.Other", False)])
def test_the_digest_takes_classes_by_name(tmp_path, monkeypatch, second, same):
    monkeypatch.chdir(tmp_path)
    grid = {"configs": ["base.yaml"], "epochs": 1, "train_samples": 8, "batch_size": 2, "seeds": [0]}
    Path("grid.yaml").write_text(yaml.safe_dump({**grid, "rows": [{"name": "float", "method": "float"}]}))
    digests = []
    for class_path in ("old.Norm", second):
        Path("base.yaml").write_text(f"trainer: {{callbacks: [{{class_path: {class_path}}}]}}")
        digests += [run.digest() for run in compare_run.all_runs(compare_grid.load_grid(Path("grid.yaml")))]
    assert (digests[0] == digests[1]) is same


def test_options_merge_as_on_the_command_line():
    merge = compare_grid.merge
    callbacks = merge({"callbacks": ["a"]}, {"callbacks+": [{"class_path": "b", "init_args": {"x": 1, "y": {"z": 2}}}]})
    callbacks = merge(callbacks, {"callbacks": {"y": {"z": 3}}})
    callbacks = merge(callbacks, {"callbacks+": "c"})
    assert callbacks == {"callbacks": ["a", {"class_path": "b", "init_args": {"x": 1, "y": {"z": 3}}}, "c"]}
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_committed_rows_belong_to_the_shipped_grids(monkeypatch):
    """A change that makes their recipes differ has to say so: new digests, or new rows."""
    monkeypatch.chdir(ROOT)
    known = 0
    for path in Path("configs/compare").glob("*.yaml"):
        runs = {run.key: run for run in compare_run.all_runs(compare_grid.load_grid(path))}
        for row in compare_results.read_results(Path(f"docs/results/compare_{path.stem}.json")):
            assert row["recipe"] == runs[compare_results.key_of(row)].digest(), f"{path}: {row['name']}"
            known += 1
    assert known > 100
