"""The compacted network fires exactly as the masked one."""

from functools import partial

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.networks import MLP, VGG, Block, ConvSNN, Network, PositiveBatchNorm, ResidualSNN
from spikefit.neurons import IF, LinearLeakIF, ParametricLIF
from spikefit.prune import compact, unit_groups
from spikefit.prune.groups import set_alive
from spikefit.prune.scores.recording import recorded_spikes
from spikefit.prune.synapse_mask import attach_mask, mask_of
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach

NETWORKS = {
    "mlp": MLP,
    "conv": ConvSNN,
    "spiking_readout": partial(ConvSNN, readout="spikes"),
    "vgg": partial(VGG, plan="vgg9", width=0.125),
    "residual": partial(ResidualSNN, channels=(6, 10), depth=2, stem_pool=2),
}


@pytest.mark.parametrize("masks", [False, True], ids=["units", "units_and_synapses"])
@pytest.mark.parametrize(
    "quantizer",
    [None, Codebook, partial(Codebook, scope="channel", zero="free"), Uniform, Ternary],
    ids=["float", "codebook", "channel", "lsq", "ternary"],
)
@pytest.mark.parametrize("neuron", [ParametricLIF, LinearLeakIF])
@pytest.mark.parametrize("make", NETWORKS)
def test_living_units_fire_as_before(wake, make, neuron, quantizer, masks):
    torch.manual_seed(0)
    network = NETWORKS[make]((2, 16, 16), 4, neuron=neuron)
    for _, layer in network.named_synapses():
        if quantizer:
            attach(layer, quantizer(layer.weight.detach()))
        if masks:
            attach_mask(layer).live.copy_(torch.rand(layer.weight.shape) < 0.6)
    x = (torch.rand(4, 5, 2, 16, 16) < 0.4).double()
    wake(network, x.float())
    for group in unit_groups(network):
        alive = torch.rand(group.units) > 0.4
        alive[0] = True
        set_alive(network, group, alive)
    network.double()
    small = compact(network)
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in network.parameters())
    with recorded_spikes(network) as before, recorded_spikes(small) as after:
        torch.testing.assert_close(small(x), network(x), rtol=1e-9, atol=1e-9)
    for name, spikes in before.items():
        assert spikes.any() or name == "readout", f"{name} is silent: nothing is compared"
        assert torch.equal(spikes[:, :, network.block(name).neuron.alive], after[name]), name
    for _, layer in small.named_synapses() if masks else ():
        assert not layer.weight[~mask_of(layer).live].any()
        assert 0.4 < mask_of(layer).live.float().mean() < 0.8


def test_the_original_is_untouched_and_a_whole_network_stays_whole():
    network = ConvSNN((1, 8, 8), 3, (4,), (5,))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    small = compact(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert {name: value.shape for name, value in small.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }


def test_a_compacted_network_trains():
    network = ConvSNN((1, 8, 8), 3, (4,), (5,))
    set_alive(network, unit_groups(network)[0], torch.tensor([True, False, True, False]))
    small = compact(network).train()
    small(torch.rand(3, 2, 1, 8, 8)).sum().backward()
    assert small.block("conv1").synapses.weight.shape == (2, 1, 3, 3)
    assert small.block("fc1").synapses.weight.grad.shape == (5, 2 * 16)


def test_biases_and_the_constants_of_a_norm_come_along(wake):
    """Layers that none of the ready-made networks has: biases, another eps, a convolved shortcut with a bias."""
    torch.manual_seed(0)
    norm = partial(PositiveBatchNorm, 4, eps=0.5)
    blocks = {
        "a": Block(nn.Conv2d(2, 4, 3, padding=1), norm(), IF(4)),
        "b": Block(nn.Conv2d(4, 4, 3, padding=1), norm(), IF(4), skip_from="a", skip=nn.Conv2d(4, 4, 1)),
        "out": Block(nn.Linear(64, 2)),
    }
    network = Network(blocks, (2, 4, 4))
    x = (torch.rand(4, 5, 2, 4, 4) < 0.4).double()
    wake(network, x.float()).double()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.uniform_(layer.bias, 0.0, 0.5)
    network.block("a").neuron.alive[1] = False
    network.block("b").neuron.alive[2:] = False
    small = compact(network)
    assert small.block("b").skip.weight.shape == (2, 3, 1, 1)
    with recorded_spikes(network) as before, recorded_spikes(small) as after:
        torch.testing.assert_close(small(x), network(x), rtol=1e-9, atol=1e-9)
    for name in ("a", "b"):
        alive = network.block(name).neuron.alive
        assert 0 < before[name].mean() < 1
        assert torch.equal(before[name][:, :, alive], after[name])
    for name, source in (("a", None), ("b", "a")):
        full = network.block(name).current(before[source] if source else x, before[source] if source else None)
        kept = small.block(name).current(after[source] if source else x, after[source] if source else None)
        torch.testing.assert_close(kept, full[:, :, network.block(name).neuron.alive])


def grouped(channels: int, groups: int) -> Network:
    blocks = {
        "a": Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), PositiveBatchNorm(4), IF(4)),
        "b": Block(
            nn.Conv2d(4, channels, 3, padding=1, groups=groups, bias=False), PositiveBatchNorm(channels), IF(channels)
        ),
        "out": Block(nn.Linear(16 * channels, 2)),
    }
    return Network(blocks, (1, 4, 4))


@pytest.mark.parametrize(
    ("channels", "groups", "dead_in", "dead_out"),
    [(4, 4, [1, 3], [1, 3]), (6, 2, [0, 1], [0, 1, 2]), (8, 4, [2], [4, 5])],
)
def test_whole_groups_of_a_convolution_are_left_out(wake, channels, groups, dead_in, dead_out):
    torch.manual_seed(0)
    network = grouped(channels, groups)
    x = (torch.rand(4, 5, 1, 4, 4) < 0.4).double()
    attach(network.block("b").synapses, Codebook(network.block("b").synapses.weight.detach(), scope="channel"))
    network.block("a").neuron.alive[dead_in] = False
    network.block("b").neuron.alive[dead_out] = False
    wake(network, x.float()).double()
    small = compact(network)
    assert small.block("b").synapses.groups == groups - len(dead_in) // (4 // groups)
    with recorded_spikes(network) as before, recorded_spikes(small) as after:
        torch.testing.assert_close(small(x), network(x), rtol=1e-9, atol=1e-9)
    assert 0 < before["b"].mean() < 1
    assert torch.equal(before["b"][:, :, network.block("b").neuron.alive], after["b"])


def test_a_group_with_living_and_dead_units_is_refused():
    network = grouped(4, 2)
    assert compact(network).block("b").synapses.groups == 2
    network.block("a").neuron.alive[1] = False
    with pytest.raises(ConfigurationError, match="b is a grouped convolution"):
        compact(network)
