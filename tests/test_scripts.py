"""The benchmark scripts run and measure what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

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
