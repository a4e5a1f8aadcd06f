"""The benchmark scripts run and measure what they say."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_peak_memory_grows_with_the_number_of_steps():
    def peak(steps):
        command = [sys.executable, "-W", "ignore", "bench_training.py", "--peak", "spikefit", "CAT M=4"]
        command += ["--steps", str(steps), "--batch", "4"]
        done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True, timeout=300)
        return float(done.stdout.split()[-1])

    few, many = peak(4), peak(32)
    # Spikes and currents of the two convolutions alone: 28 steps more of 4 x (32 x 784 + 64 x 196) floats.
    assert many - few > 28 * 4 * (32 * 784 + 64 * 196) * 4 / 2**20


def test_a_library_that_is_not_installed_costs_no_other_row(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_training

    def absent():
        raise ModuleNotFoundError("no such library")

    rows = {("spikefit", "float"): bench_training.ours, ("absent", "eager"): absent}
    monkeypatch.setattr(bench_training, "EAGER", rows)
    monkeypatch.setattr(bench_training, "peak_apart", lambda key, steps, batch: None)
    (row,) = bench_training.measure(steps=2, batch=2, rounds=3, compile_up_to=0)
    assert (row["library"], row["T"], row["batch"]) == ("spikefit", 2, 2)
    assert 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]


def test_reclustering_is_as_good_as_the_exact_one_and_no_worse_than_scikit_learn(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_codebook

    rows = {row["reclustering"]: row for row in bench_codebook.reclustering(weights=5000, levels=4, rounds=3)}
    assert abs(rows["spikefit, k-means"]["excess_inertia"]) < 1e-6
    assert rows["scikit-learn, n_init=auto"]["excess_inertia"] > -1e-6
    assert rows["spikefit, k-means"]["ratio"] == 1
    assert "excess_inertia" not in rows["spikefit, refit"]


def test_steps_are_compared_with_the_float_step(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_codebook

    rows = bench_codebook.steps(time_steps=2, batch=4, rounds=3)
    assert [row["input"] for row in rows] == ["direct"] * 3 + ["frames"] * 3
    assert all(0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"] for row in rows)
    assert rows[0]["ratio"] == rows[3]["ratio"] == 1


def test_inertia_by_hand(monkeypatch):
    """0 and 1 are each 0.5 from 0.5, 4 is 1 from 3."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_codebook

    assert bench_codebook.inertia(torch.tensor([0.0, 1.0, 4.0]).double(), [3.0, 0.5]) == 1.5
