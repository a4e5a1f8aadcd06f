"""The command deploy: the figures of a run again, from anywhere, and other chips."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import fake_data

import spikefit
from spikefit.api.load import TrainedRun
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier

NETWORK = """
from spikefit.networks import MLP
from spikefit.neurons import LIF


class OwnNetwork(MLP):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes, [20], neuron=lambda units: LIF(units, reset="zero"))
"""
CONFIG = """
seed_everything: 3
cpu_threads: 1
hardware: own_chip.yaml
data:
  class_path: spikefit.data.SpikeDataModule
  init_args:
    dataset: {class_path: spikefit.data.images.FashionMNIST, init_args: {root: images}}
    encoding: rate
    time_steps: 3
model:
  class_path: spikefit.module.SpikingClassifier
  init_args:
    network: {class_path: own_network_of_the_test.OwnNetwork}
    quantizer: {class_path: spikefit.quantize.Codebook, init_args: {levels: 4, bits: 8}}
trainer:
  accelerator: cpu
  max_epochs: 3
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: runs, name: own}}
  callbacks:
    - {class_path: callbacks.CodebookReclustering, init_args: {schedule: {start: 1, stop: 2}}}
    - {class_path: callbacks.ChipEmulation, init_args: {schedule: {start: 2}}}
    - class_path: callbacks.CompressedCheckpoint
      init_args: {filename: best, monitor: val/accuracy, mode: max, enable_version_counter: false}
    - class_path: callbacks.DeploymentSimulation
      init_args: {at_fit_end: true, max_samples: 50, parity_samples: 20, energy_model: memory}
"""
CHIPS = Path(spikefit.__file__).resolve().parents[1] / "configs" / "hardware"


@pytest.fixture
def project(run, tmp_path, monkeypatch):
    """A folder with a run of its own network on its own data and chip, which it names by relative paths."""
    monkeypatch.delenv("SPIKEFIT_DATA_DIR", raising=False)
    Path("own_network_of_the_test.py").write_text(NETWORK)
    Path("config.yaml").write_text(CONFIG)
    text = (CHIPS / "loihi.yaml").read_text().replace("synop_j: {value: 23.6e-12", "synop_j: {value: 1.0e-12")
    Path("own_chip.yaml").write_text(text)
    fake_data.write_mnist(Path("images"), "FashionMNIST")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    status, printed = run("fit", "--config", "config.yaml", "--trainer.enable_progress_bar=false")
    assert status == 0, printed
    sys.modules.pop("own_network_of_the_test")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield tmp_path
    sys.modules.pop("own_network_of_the_test", None)


def figures(file: Path) -> dict:
    """A report without the paths in it."""
    content = json.loads(file.read_text())
    for name in ("configuration", "checkpoint", "run"):
        content["provenance"].pop(name)
    return content


def test_deployment_repeats_the_run_from_anywhere(project, run, monkeypatch, tmp_path_factory):
    own = project / "runs" / "own" / "version_0"
    expected = figures(own / "deployment" / "report.json")
    assert (expected["samples"], expected["parity"] is not None, expected["energy"]["model"]) == (50, True, "memory")
    assert expected["trained_with_integers_of"] == expected["target"] == "own_chip"
    best = own / "checkpoints" / "best.ckpt"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    torch.set_num_threads(2)
    status, printed = run("deploy", best, "--hardware", "own_chip")
    assert status == 0, printed
    assert figures(own / "deployment" / "own_chip" / "report.json") == expected
    assert (own / "deployment" / "own_chip" / "report.html").is_file()
    assert torch.get_num_threads() == 2, "the number of threads of before is restored"
    assert not list(elsewhere.iterdir())

    moved = project / "archive" / "own"
    shutil.move(own, moved)
    status, printed = run("deploy", moved, "--out", "reports")
    assert status == 0, printed
    assert figures(Path("reports/own_chip/report.json")) == expected
    assert json.loads(Path("reports/own_chip/report.json").read_text())["provenance"]["run"] == "archive/own"

    status, printed = run("deploy", moved, "--hardware", "own_chip", "generic", "odin", "--samples", 30)
    assert status == 0, printed
    rows = json.loads((moved / "deployment" / "comparison.json").read_text())
    assert [(row["chip"], row["runs"]) for row in rows] == [("own_chip", True), ("generic", True), ("odin", False)]
    assert rows[1]["samples"] == 30
    assert "odin can't run it: " in printed
    status, printed = run("deploy", moved, "--hardware", "odin")
    assert status == 2
    assert "target odin can't run this network" in printed
    status, printed = run("compare", moved, "reports")
    assert status == 0, printed
    assert "archive/own" in printed

    report = spikefit.deploy(moved, samples=0)
    assert (report.samples, report.energy.model) == (120, "memory")
    assert spikefit.deploy(moved / "checkpoints" / "best.ckpt", energy_model="target").energy.model == "target"


def test_a_checkpoint_alone_needs_a_configuration(project, run, monkeypatch):
    own = project / "runs" / "own" / "version_0"
    alone = project / "alone" / "of" / "it" / "best.ckpt"
    alone.parent.mkdir(parents=True)
    shutil.copy(own / "checkpoints" / "best.ckpt", alone)
    (own / "config.yaml").rename(project / "kept.yaml")
    (project / "config.yaml").unlink()
    monkeypatch.setattr(sys, "path", [str(project), *sys.path])
    status, printed = run("deploy", alone)
    assert status == 2
    assert "does not say which data to use" in printed
    status, printed = run("deploy", alone, "--config", project / "kept.yaml")
    assert status == 0, printed
    expected = figures(own / "deployment" / "report.json")
    assert figures(alone.parent / "deployment" / "own_chip" / "report.json") == expected
    with pytest.raises(ConfigurationError, match=r"nowhere.yaml can't be read"):
        TrainedRun.of(alone, Path("nowhere.yaml"))
    Path("list.yaml").write_text("[1]")
    with pytest.raises(ConfigurationError, match=r"list.yaml holds no mapping"):
        TrainedRun.of(alone, Path("list.yaml"))
    Path("bad.yaml").write_text("data: {class_path: spikefit.data.SpikeDataModule, init_args: {timesteps: 3}}")
    with pytest.raises(ConfigurationError, match="timesteps"):
        TrainedRun.of(alone, Path("bad.yaml")).data()

    status, printed = run("export", alone)
    assert status == 0, printed
    loaded = spikefit.load(alone)
    assert isinstance(loaded, SpikingClassifier)
    assert not loaded.training


def test_a_new_project_is_checked_and_trained(run, monkeypatch, tmp_path):
    status, printed = run("init", "demo")
    assert status == 0, printed
    monkeypatch.chdir(tmp_path / "demo")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "demo"), *sys.path])
    status, printed = run("check", "--config", "config.yaml")
    assert status == 0, printed
    assert "loihi: fits" in printed
    status, printed = run("check", "--config", "config.yaml", "--hardware", "truenorth", "--cpu_threads=1")
    assert status == 1
    assert "truenorth: it needs another network: use IF or LinearLeakIF neurons" in printed
    status, printed = run("fit", "--config", "config.yaml", "--trainer.limit_train_batches=1", "--cpu_threads=1")
    assert status == 0, printed
    assert Path("runs/my_network/version_0/deployment/report.json").is_file()
    made = Path("runs/my_network/version_0")
    best = next((made / "checkpoints").glob("*.ckpt"))
    status, printed = run(
        "predict", "--config", "config.yaml", "--ckpt_path", best, "--trainer.limit_predict_batches=1"
    )
    assert status == 0, printed
    assert next(Path("runs/my_network/version_1").rglob("predictions.csv")).is_file()
    status, printed = run("init", ".")
    assert status == 2
    assert "has README.md, config.yaml, my_network.py, configs already" in printed
