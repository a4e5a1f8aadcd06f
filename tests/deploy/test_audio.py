"""Audio from a cochlea, [T, B, N]: a network of linear layers is trained, compressed, and lowered to a program."""

import json
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers import fake_events
from lightning.pytorch.loggers import CSVLogger

from callbacks import CodebookReclustering, DeploymentSimulation, FSCPruning
from callbacks.schedule import Schedule
from spikefit.data import SpikeDataModule
from spikefit.data.events import SHD
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP
from spikefit.neurons import LIF, ParametricLIF
from spikefit.nir.write import to_nir
from spikefit.program.bundle import read_bundle, write_bundle
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("audio")
    fake_events.write_heidelberg(root, "SHD", 20)
    data = SpikeDataModule(SHD(root=str(root), download=False), "frames", time_steps=6, batch_size=24)
    data.setup("fit")
    data.setup("test")
    return data


def trained(data, neuron, epochs=6, callbacks=(), **options):
    torch.manual_seed(0)
    module = SpikingClassifier(
        partial(MLP, hidden=(32, 24), neuron=neuron),
        data.input_shape,
        data.num_classes,
        partial(Codebook, levels=4, bits=4),
        optimizer=partial(torch.optim.AdamW, lr=0.01),
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[CodebookReclustering(Schedule(2)), FSCPruning(fraction=0.3, schedule=Schedule(3, 3)), *callbacks],
        **({"logger": False, "enable_checkpointing": False} | options),
    )
    trainer.fit(module, data)
    return module.eval()


@pytest.mark.parametrize(("neuron", "reset"), [(LIF, "subtract"), (ParametricLIF, "zero")])
def test_a_compressed_audio_network_and_its_program_agree(data, neuron, reset):
    """The fake words differ in one channel each, so that a network that learns anything knows many of them."""
    module = trained(data, partial(neuron, reset=reset))
    assert module.network.input_shape == (700,)
    alive = [int(block.neuron.alive.sum()) for block in module.network.blocks.values() if block.neuron]
    assert sum(alive) == 39, "30 % of 56 are gone"
    program = lower(module.network, DeploymentContext(None, data.time_steps, data.input_kind))
    assert all(len(projection.weight.unique()) <= 4 for projection in program.projections)
    correct, samples = 0, 0
    for batch in data.test_dataloader():
        x, y = data.on_after_batch_transfer(batch, 0)
        assert x.shape == (6, len(y), 700)
        result = compare(module.network, program, x)
        assert result.mismatches == 0
        assert result.compared > 0
        correct += int((Simulator(program)(x).logits.argmax(1) == y).sum())
        samples += len(y)
    assert samples == 240
    assert correct > samples / 4, "chance is 1 in 20"


def test_a_chip_runs_it_and_a_bundle_and_a_nir_graph_hold_it(data, tmp_path):
    pytest.importorskip("safetensors", reason="bundles need safetensors")
    module = trained(data, partial(ParametricLIF, decay=0.8, reset="zero"))
    target = HardwareTarget.load("loihi")
    program = lower(module.network, DeploymentContext(target, data.time_steps, data.input_kind), "target")
    x, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert compare(module.network, program, x, tolerance=None).agreement > 0.99
    read = read_bundle(write_bundle(program, tmp_path / "bundle.safetensors"))
    assert read.populations[0].shape == (700,)
    assert torch.equal(Simulator(read)(x).logits, Simulator(program)(x).logits)
    pytest.importorskip("nir", reason="nir is not installed")
    exact = lower(module.network, DeploymentContext(None, data.time_steps, data.input_kind))
    graph = to_nir(exact)
    assert graph.nodes["input"].input_type["input"].tolist() == [700]


def test_the_report_of_an_audio_network(data, tmp_path):
    """What ``configs/experiment/shd_cat.yaml`` ends with."""
    deployment = DeploymentSimulation(["loihi"], at_fit_end=True)
    trained(
        data,
        partial(ParametricLIF, decay=0.9, reset="zero"),
        callbacks=[deployment],
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
    )
    (path,) = Path(tmp_path).rglob("report.json")
    report = json.loads(path.read_text())
    assert report["samples"] == 240
    assert report["fits"] is True
    assert report["synops_per_inference"] > 0
    assert report["parity"]["mismatches"] == 0
    assert report["accuracy_deployed"] > 0.25, "chance is 1 in 20"
    assert report["encoder"] is None
