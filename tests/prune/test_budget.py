"""Budgets of exactly one quantity; everything else is refused."""

import pytest
import torch
from helpers.deployment_contexts import context
from torch import nn

from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import Block, ConvSNN, Network
from spikefit.neurons import IF
from spikefit.prune.budget import Budget
from spikefit.prune.resources import alive_by_block, energy, measure_traffic
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize import Uniform
from spikefit.quantize.base import attach


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({}, ConfigurationError, "got nothing, expected exactly one of neurons, synapses, energy_j"),
        ({"neurons": 5, "synapses": 5}, ConfigurationError, "got neurons and synapses"),
        ({"neurons": 0}, ConfigurationError, r"budget\.neurons: got 0"),
        ({"energy_j": -1.0}, ConfigurationError, r"budget\.energy_j: got -1"),
        ({"synapses": 5, "batches": 0}, ConfigurationError, r"budget\.batches"),
    ],
)
def test_a_bad_budget_is_named(options, error, named):
    with pytest.raises(error, match=named):
        Budget(**options)


def test_energy_needs_a_chip_whose_constants_are_known():
    energies = Budget(energy_j=1e-6)
    with pytest.raises(TargetError, match="synop_j is unknown"):
        energies.require(context(4, target="speck2f"))
    with pytest.raises(ConfigurationError, match="hardware: no chip is named"):
        energies.require(context(4))
    energies.require(context(4, target="loihi"))
    Budget(neurons=5).require(context(4))


def test_each_quantity_is_counted():
    """By hand: 4 channels of 6 x 6 after one of 8 x 8, 5 neurons, 3 outputs."""
    torch.manual_seed(0)
    blocks = {
        "a": Block(nn.Conv2d(1, 4, 3, bias=False), neuron=IF(4)),
        "b": Block(nn.Linear(4 * 36, 5, bias=False), neuron=IF(5)),
        "out": Block(nn.Linear(5, 3, bias=False)),
    }
    network = Network(blocks, (1, 8, 8)).eval()
    alive = alive_by_block(network)
    assert Budget(neurons=1).resource_use(network, None).total(alive) == 4 * 36 + 5 + 3
    assert Budget(synapses=1).resource_use(network, None).total(alive) == 4 * 9 * 36 + 4 * 36 * 5 + 15
    found = measure_traffic(network, [(torch.ones(2, 3, 1, 8, 8), torch.zeros(3))], InputKind.SPIKES)
    loihi = Budget(energy_j=1.0)
    assert loihi.resource_use(network, context(2, target="loihi"), found).total(alive) == energy(
        network, HardwareTarget.load("loihi"), found
    ).total(alive)
    assert [Budget(neurons=1).needs_traffic, Budget(synapses=1).needs_traffic, loihi.needs_traffic] == [0, 0, 1]


def test_a_size_that_weights_or_rates_decide_is_not_told_beforehand():
    def network(prepare):
        made = ConvSNN((1, 8, 8), 3, (4,), (5,))
        for _, layer in made.named_synapses():
            prepare(layer)
        return made

    plain = network(lambda layer: None)
    quantised = network(lambda layer: attach(layer, Uniform(layer.weight.detach())))
    masked = network(attach_mask)
    energies = Budget(energy_j=1.0)
    assert [Budget(neurons=9).depends_on_units_alone(made) for made in (plain, quantised, masked)] == [1, 1, 1]
    assert [Budget(synapses=9).depends_on_units_alone(made) for made in (plain, quantised, masked)] == [1, 0, 0]
    assert [energies.depends_on_units_alone(made) for made in (plain, quantised, masked)] == [0, 0, 0]
