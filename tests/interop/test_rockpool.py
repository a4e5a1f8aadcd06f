"""The specification for Rockpool: its XyloSim gives the spikes of the simulator, of every neuron."""

import numpy as np
import pytest
import torch
from helpers.deployment_contexts import context
from helpers.interop_cases import digits
from helpers.rockpool_reference import xylo_sim
from helpers.xylosim_reference import XYLO, drawn

from spikefit.networks import MLP, ConvSNN
from spikefit.neurons import CubaLIF
from spikefit.program.lower import lower
from spikefit.program.rockpool import specification, write_specification
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

pytest.importorskip("xylosim", reason="xylosim is not installed")
pytest.importorskip("rockpool", reason="rockpool is not installed")

STEPS = 8


def neurons(units):
    return CubaLIF(units, 0.5, 0.75, max_spikes=31)


def mlp(hidden, inputs=(1, 4, 4), classes=10):
    network = MLP(inputs, classes, hidden, neuron=neurons, readout="spikes", norm="gain")
    for _, layer in network.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
    return network


def compare(program, inputs, tmp_path):
    """Require equal spikes of all neurons, and return how many there are."""
    ours = Simulator(program)(inputs, record=True)
    assert sum(layer.overflows for layer in ours.activity) == 0
    content = np.load(write_specification(program, tmp_path / "xylo.npz"))
    counts = XYLO.arithmetic().input_units(inputs.double()).flatten(2)
    *hidden, output = program.populations[1:]
    steps, late, fired = len(counts), len(hidden), 0
    padded = torch.cat([counts, torch.zeros(late, *counts.shape[1:])])
    for sample in range(inputs.shape[1]):
        simulated = xylo_sim().from_specification(**content)
        spikes, _, recorded = simulated.evolve(padded[:, sample].numpy(), record=True)
        found, first = {output.name: spikes[late:]}, 0
        for delay, population in enumerate(hidden):
            columns = slice(first, first + population.neurons)
            found[population.name] = recorded["Spikes"][delay : delay + steps, columns]
            first += population.neurons
        for name, part in found.items():
            assert np.array_equal(part, ours.spikes[name][:, sample].numpy()), name
            fired += int(part.sum())
    return fired


@pytest.mark.parametrize("seed", range(10))
def test_random_programs(seed, tmp_path):
    """Every neuron has its own threshold and shifts, and those of the first layer a bias."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(30, 2, 9, generator=generator)
    inputs[torch.rand(inputs.shape, generator=generator) < 0.5] = 0
    assert compare(drawn(seed), inputs, tmp_path) > 0


def test_a_trained_network(tmp_path):
    images, labels, test_images, _ = digits()
    torch.manual_seed(0)
    network = mlp((24, 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)

    def coded(batch):
        small = torch.nn.functional.avg_pool2d(batch, 2)
        return small.unsqueeze(0).expand(STEPS, *small.shape)

    for batch in torch.randperm(len(labels)).split(48) * 2:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network.logits(network(coded(images[batch]))), labels[batch])
        loss.backward()
        optimizer.step()
    program = lower(network.eval(), context(STEPS, True, target=XYLO), "target")
    assert compare(program, coded(test_images[:20]), tmp_path) > 1000


def test_the_matrices_are_those_of_the_program():
    torch.manual_seed(0)
    program = lower(mlp((5, 7), inputs=(9,), classes=4).eval(), context(STEPS, True, target=XYLO), "target")
    content = specification(program)
    first, second, last = program.projections
    assert content["weights_in"].shape == (9, 5, 1)
    assert np.array_equal(content["weights_in"][:, :, 0], first.weight.numpy().T)
    assert np.array_equal(content["weights_rec"][:5, 5:, 0], second.weight.numpy().T)
    assert np.count_nonzero(content["weights_rec"]) == np.count_nonzero(second.weight.numpy())
    assert np.array_equal(content["weights_out"], last.weight.numpy().T)


def test_other_chips_and_networks_are_refused():
    from spikefit.errors import ExchangeError

    dense = mlp((5,), inputs=(9,), classes=4).eval()
    with pytest.raises(ExchangeError, match="expected one of a Xylo chip"):
        specification(lower(dense, context(STEPS, True)))
    conv = ConvSNN((1, 4, 4), 4, (3,), (), neuron=neurons, readout="spikes", norm="gain", pool=1).eval()
    with pytest.raises(ExchangeError, match=r"conv1.*expected dense synapses"):
        specification(lower(conv, context(STEPS, True, target=XYLO), "target"))
