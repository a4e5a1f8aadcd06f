"""The benchmark scripts run and measure what they describe."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tonic.collation import PadTensors

from spikefit.networks import ConvSNN

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_peak_memory_grows_with_the_number_of_steps():
    def peak(steps):
        command = [sys.executable, "-W", "ignore", "-m", "scripts.bench.training", "--peak", "spikefit", "CAT M=4"]
        command += ["--steps", str(steps), "--batch", "4"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
        return float(done.stdout.split()[-1])

    few, many = peak(4), peak(32)
    # Spikes and currents of the two convolutions alone: 28 steps more of 4 x (32 x 784 + 64 x 196) floats.
    assert many - few > 28 * 4 * (32 * 784 + 64 * 196) * 4 / 2**20


def test_a_library_that_is_not_installed_costs_no_other_row(monkeypatch):
    from scripts.bench import training as bench_training

    def absent():
        raise ModuleNotFoundError("no such library")

    rows = {("spikefit", "float"): bench_training.ours, ("absent", "eager"): absent}
    monkeypatch.setattr(bench_training, "EAGER", rows)
    monkeypatch.setattr(bench_training, "peak_apart", lambda key, steps, batch: None)
    (row,) = bench_training.measure(steps=2, batch=2, rounds=3, compile_up_to=0)
    assert (row["library"], row["T"], row["batch"]) == ("spikefit", 2, 2)
    assert 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]


def test_reclustering_is_as_good_as_the_exact_one_and_no_worse_than_scikit_learn(monkeypatch):
    from scripts.bench import codebook as bench_codebook

    rows = {row["reclustering"]: row for row in bench_codebook.reclustering(weights=5000, levels=4, rounds=3)}
    assert abs(rows["spikefit, k-means"]["excess_inertia"]) < 1e-6
    assert rows["scikit-learn, n_init=auto"]["excess_inertia"] > -1e-6
    assert rows["spikefit, k-means"]["ratio"] == 1
    assert "excess_inertia" not in rows["spikefit, refit"]


def test_steps_are_compared_with_the_float_step(monkeypatch):
    from scripts.bench import codebook as bench_codebook

    rows = bench_codebook.steps(time_steps=2, batch=4, rounds=3)
    assert [row["input"] for row in rows] == ["direct"] * 3 + ["frames"] * 3
    assert all(0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"] for row in rows)
    assert rows[0]["ratio"] == rows[3]["ratio"] == 1


def test_inertia_by_hand(monkeypatch):
    """0 and 1 are each 0.5 from 0.5, 4 is 1 from 3."""
    from scripts.bench import codebook as bench_codebook

    assert bench_codebook.inertia(torch.tensor([0.0, 1.0, 4.0]).double(), [3.0, 0.5]) == 1.5


def test_event_data_are_compared_with_tonic(tmp_path, monkeypatch):
    from helpers import fake_data

    from scripts.bench import data as bench_data

    fake_data.write_nmnist(tmp_path)
    cold, warm, waiting = (
        measure(tmp_path, number=40, steps=2, rounds=3)
        for measure in (bench_data.cold, bench_data.warm, bench_data.waiting)
    )
    assert [row["speed-up"] for row in (cold[0], cold[3], warm[0])] == [1, 1, 1]  # each group's own first row: tonic
    assert all("tonic" in row["data"] for row in (cold[0], cold[3], warm[0]))
    assert all(0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"] for row in [*cold, *warm, *waiting])
    assert all(0 < row["share"] < 1 for row in waiting)


def test_what_the_benchmark_compares_is_equal(tmp_path, monkeypatch):
    from helpers import fake_data

    from scripts.bench import data as bench_data

    fake_data.write_nmnist(tmp_path)
    recordings = bench_data.Recorded(tmp_path, 40, held=True)
    x, y = bench_data.batches(bench_data.Tonic(recordings, 3), PadTensors())()
    counts, labels = bench_data.batches(bench_data.framed(recordings, 3, cache="none", binary=False))()
    assert x.shape == counts.shape == (32, 3, 2, 34, 34)
    assert torch.equal(x.long(), counts.long())
    assert torch.equal(y, labels)


def test_codebooks_are_plotted_from_a_runs_metrics(tmp_path, monkeypatch):
    from scripts import plot_codebooks

    metrics = tmp_path / "metrics.csv"
    metrics.write_text(
        "epoch,codebook/flips/conv1,codebook/drift/conv1,codebook/dead/conv1,train/loss\n0,,,1,0.5\n1,0.25,0.1,0,\n"
    )
    expected = {"flips": {"conv1": [(1, 0.25)]}, "drift": {"conv1": [(1, 0.1)]}, "dead": {"conv1": [(0, 1), (1, 0)]}}
    assert plot_codebooks.read(metrics) == expected
    plot_codebooks.plot([metrics], ["run"], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_layer_by_currents_loses_less_than_by_weights(monkeypatch, wake):
    """Agreement with the answers of the float network: quantised by currents, it keeps more of them."""
    from scripts import layer_sensitivity

    torch.manual_seed(0)
    network = ConvSNN((1, 8, 8), 4, (8, 8), (16,))
    x = torch.rand(300, 1, 8, 8) * torch.rand(300, 1, 1, 1)
    frames = x.expand(4, -1, -1, -1, -1)
    wake(network, frames)
    labels = network.logits(network(frames)).argmax(1)
    batches = [(frames[:, i : i + 100], labels[i : i + 100]) for i in range(0, 300, 100)]
    assert layer_sensitivity.accuracy(copy.deepcopy(network), batches, batches) > 0.9
    kept = {}
    for metric in ("weights", "currents"):
        quantised = copy.deepcopy(network)
        layer_sensitivity.quantise(quantised, "conv1", metric, 2, 8, batches)
        assert len(quantised.block("conv1").synapses.weight.unique()) <= 2
        kept[metric] = layer_sensitivity.accuracy(quantised, batches, batches)
    assert kept["currents"] > kept["weights"]


def test_batches_of_images_are_timed():
    from scripts.bench import images as bench_images

    rows = bench_images.measured(number=600, rounds=2, accelerator="cpu")
    assert [row["images"] for row in rows] == [
        "DataLoader, torchvision",
        "DataLoader, batches augmented",
        "tensors, batches augmented",
        "DataLoader, as they are",
        "tensors, as they are",
    ]
    assert all(row["images_per_s"] == pytest.approx(600e3 / row["median_ms"], rel=0.02) for row in rows)
    assert rows[0]["speed-up"] == 1


def test_the_gpu_script_runs_on_a_cpu(tmp_path, monkeypatch):
    """Kernels are checked, rows may be chosen, and a peer that is absent costs no other row."""
    from scripts.bench import gpu as bench_gpu

    out = tmp_path / "bench.json"
    bench_gpu.main(["--device", "cpu", "--out", str(out), "--rounds", "3", "--only", "check"])
    rows = json.loads(out.read_text())["check"]
    assert rows["norm, scan and pooling, float32"]["windows_that_differ"] == 0
    assert rows["codebook of 4, 1 rows"] == {"values_that_differ": 0, "gradient": pytest.approx(0, abs=1e-5)}
    wanted = ["--rows", "float", "ReLU, channels last", "SpikingJelly"]
    bench_gpu.main(["--device", "cpu", "--out", str(out), "--rounds", "3", "--only", "step ConvSNN", *wanted])
    rows = json.loads(out.read_text())["step ConvSNN, T=4, bf16"]
    assert list(rows) == wanted[1:]
    assert rows["float"]["median_ms"] > 0
    assert "median_ms" in rows["SpikingJelly"] or "ModuleNotFoundError" in rows["SpikingJelly"]["failed"]
