"""The codebook survives lowering: values, indices and groups of the chip's integers."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context

from spikefit.hardware.target import HardwareTarget
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.neurons import LIF
from spikefit.program.lower import lower
from spikefit.program.storage import pack_weights
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize import AxonCodebook, Codebook, RescaledUniform, Ternary, Uniform
from spikefit.quantize.base import attach, latent_weight, quantizer_of
from spikefit.quantize.post_training import UniformGrid

LOIHI = HardwareTarget.load("loihi")
QUANTIZERS = {
    "layer": Codebook,
    "channel": partial(Codebook, scope="channel", zero="none"),
    "core": partial(Codebook, scope="core", core_outputs=3, zero="free"),
    "axon": AxonCodebook,
    "grid": partial(UniformGrid, levels=6, bits=4),
    "rescaled": RescaledUniform,
    "ternary": Ternary,
    "uniform": Uniform,
}


def network(wake, quantizer, cls=ConvSNN, mask=False, **options):
    torch.manual_seed(1)
    net = cls((1, 8, 8), 4, channels=(4, 7), neuron=partial(LIF, reset="zero"), **options)
    for _, layer in net.named_synapses():
        attach(layer, quantizer(layer.weight.detach()))
        if mask:
            attach_mask(layer).live.copy_(torch.rand(layer.weight.shape) < 0.5)
    return wake(net, (torch.rand(4, 8, 1, 8, 8) < 0.4).float())


def integers(net):
    return lower(net, context(4, target=LOIHI), "target")


@pytest.mark.parametrize("mask", [False, True], ids=["whole", "pruned"])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_each_group_has_the_values_that_its_weights_take(wake, name, mask):
    net = network(wake, QUANTIZERS[name], mask=mask)
    net.block("conv2").neuron.alive[[1, 4]] = False
    for projection, (_, layer) in zip(integers(net).projections, net.named_synapses(), strict=True):
        stored = projection.stored
        assert stored is projection.codebook
        assert torch.equal(stored.weight(), projection.weight)
        outputs = len(projection.weight)
        for group, values in enumerate(stored.values):
            taken = set(projection.weight[stored.group_of_output == group].flatten().tolist())
            assert set(values.tolist()) == taken
        by_output = name in ("channel", "axon")
        if name == "core":
            alive = torch.arange(len(layer.weight))
            if projection.name == "conv2":
                alive = alive[net.block("conv2").neuron.alive]
            assert stored.group_of_output.tolist() == (alive // 3).tolist()
        else:
            assert stored.groups == (outputs if by_output else 1)
        assert quantizer_of(layer).integers(latent_weight(layer)).codebook.values.shape[1] <= 15


def test_the_exact_program_has_real_weights_and_no_codebook(wake):
    for projection in lower(network(wake, Codebook), context(4)).projections:
        assert projection.codebook is None
        assert torch.equal(projection.stored.weight(), projection.weight)


@pytest.mark.parametrize("main", ["layer", "channel"])
@pytest.mark.parametrize("shortcut", ["layer", "channel", "core"])
def test_a_shortcut_s_values_are_rounded_as_its_weights_would_be(wake, main, shortcut):
    """By hand: every real weight over the unit of its output, to the nearest multiple of the power of two."""
    net = network(wake, QUANTIZERS[main], cls=ResidualSNN)
    name, layer = next((name, layer) for name, layer in net.named_synapses() if name.endswith(".skip"))
    fresh = torch.nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, bias=False)
    attach(fresh, QUANTIZERS[shortcut](fresh.weight.detach()))
    net.block(name.removesuffix(".skip")).skip = fresh
    exact = next(p for p in lower(net, context(4)).projections if p.name == name)
    program = integers(net)
    found = next(p for p in program.projections if p.name == name)
    unit, power = program.population(found.target).unit.tolist(), 2**found.exponent
    for row, real, own in zip(found.weight.flatten(1).tolist(), exact.weight.flatten(1).tolist(), unit, strict=True):
        assert row == [round(value / own / power) * power for value in real]
    assert found.stored is found.codebook
    assert torch.equal(found.codebook.weight(), found.weight)
    by_shortcut = {"layer": 1, "core": 3, "channel": 7}[shortcut]
    assert found.codebook.groups == (by_shortcut if main == "layer" else 7)


def test_cores_make_tables_of_their_own_in_storage(wake):
    """Two groups of 64 outputs: a table for each is smaller than one for all or one for every output."""
    net = network(wake, partial(Codebook, scope="core", core_outputs=64, bits=8), hidden=(128,))
    fc1 = next(p for p in integers(net).projections if p.name == "fc1")
    assert fc1.codebook.groups == 2
    assert pack_weights(fc1).layout == "group_codebook"
