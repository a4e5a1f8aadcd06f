"""Trained networks on real data: the exact program's spikes equal the network's, every neuron, every step."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from helpers.deployment_contexts import context

from callbacks import CodebookReclustering, FSCPruning
from callbacks.schedule import Schedule
from spikefit.data import SpikeDataModule
from spikefit.data.events import POKERDVS
from spikefit.data.images import Digits, FashionMNIST
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook

NEURONS = {"if": IF, "lif": LIF, "parametric": ParametricLIF, "linear": partial(LinearLeakIF, leak_per_step=0.05)}
NETWORKS = {
    "average_pool": partial(ConvSNN, channels=(8, 12), hidden=(24,)),
    "stride": partial(ConvSNN, channels=(8, 12), hidden=(), pool=1, stride=2, kernel=5),
    "residual": partial(ResidualSNN, channels=(6, 10), stem_pool=2),
}
MOST = 256


def source(name, request):
    if name == "digits":
        return Digits(), "direct"
    root = str(request.getfixturevalue("data_dir"))
    if name == "fashion_mnist":
        return FashionMNIST(root=root, download=False), "latency"
    return POKERDVS(root=root, download=False), "frames"


def trained(data, network, neuron, reset):
    """A few steps: float, then a codebook of 4 values, then 30 % of the units pruned."""
    torch.manual_seed(0)
    module = SpikingClassifier(
        partial(NETWORKS[network], neuron=partial(NEURONS[neuron], reset=reset)),
        data.input_shape,
        data.num_classes,
        partial(Codebook, levels=4, bits=4),
        optimizer=partial(torch.optim.AdamW, lr=0.005),
    )
    trainer = pl.Trainer(
        max_epochs=5,
        limit_train_batches=6,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[CodebookReclustering(Schedule(1)), FSCPruning(fraction=0.3, schedule=Schedule(2, 2))],
    )
    trainer.fit(module, data)
    return module.eval()


@pytest.fixture(scope="module")
def loaded():
    return {}


DATA = (
    ("digits", "average_pool"),
    ("digits", "residual"),
    ("pokerdvs", "stride"),
    ("pokerdvs", "residual"),
    ("fashion_mnist", "average_pool"),
)
CASES = [  # each neuron on all data, each of its resets on two or three of them
    (name, network, neuron, ("subtract", "zero")[(place + number) % 2])
    for place, (name, network) in enumerate(DATA)
    for number, neuron in enumerate(NEURONS)
]


@pytest.mark.parametrize(("name", "network", "neuron", "reset"), CASES)
def test_trained_network_and_exact_program_agree(request, loaded, name, network, neuron, reset):
    if name not in loaded:
        dataset, encoding = source(name, request)
        loaded[name] = SpikeDataModule(dataset, encoding, time_steps=4, batch_size=8 if name == "pokerdvs" else 32)
        loaded[name].setup("test")
    data = loaded[name]
    module = trained(data, network, neuron, reset)
    program = lower(module.network, DeploymentContext(None, data.time_steps, data.input_kind))
    samples, compared, correct = 0, 0, 0
    fired = set()
    for batch in data.test_dataloader():
        x, y = data.on_after_batch_transfer(batch, 0)
        x, y = x[:, : MOST - samples], y[: MOST - samples]
        result = compare(module.network, program, x)
        assert result.mismatches == 0, result
        compared += result.compared
        samples += len(y)
        simulation = Simulator(program)(x, record=True)
        fired |= {layer for layer, spikes in simulation.spikes.items() if spikes.any()}
        correct += int((simulation.logits.argmax(1) == y).sum())
        if samples == MOST:
            break
    assert samples == min(MOST, len(data.test_dataloader().sampler))
    assert fired == {population.name for population in program.populations if population.spiking}
    assert compared > 10_000
    assert correct > 0


def test_target_program_of_a_trained_network_agrees_closely(request):
    """Loihi's integers: 4 values of 4 bits a layer, thresholds in units of its register."""
    dataset, encoding = source("digits", request)
    data = SpikeDataModule(dataset, encoding, time_steps=4, batch_size=180)
    module = trained(data, "average_pool", "lif", "zero")
    target = HardwareTarget.load("loihi")
    program = lower(module.network, context(4, True, target=target), "target")
    data.setup("test")
    x, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert compare(module.network, program, x, tolerance=None).agreement > 0.995
    for projection in program.projections:
        assert projection.weight.dtype == torch.int64
        assert len(projection.weight.unique()) <= 4
        assert projection.bits == 4
