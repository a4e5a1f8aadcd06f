"""Groups of tied channels, and the synapses that remain when units die."""

from functools import partial

import pytest
import torch
from torch import nn

from spikefit.networks import MLP, Block, ConvSNN, IdentitySkip, Network, ResidualSNN
from spikefit.neurons import IF
from spikefit.prune import alive_units, live_synapses, unit_groups
from spikefit.prune.groups import set_alive


def test_identity_shortcuts_tie_channels_and_convolved_ones_do_not():
    groups = unit_groups(ResidualSNN((1, 16, 16), 3, channels=(4, 6), depth=2))
    tied = [(group.blocks, group.units, group.kind) for group in groups]
    assert tied == [
        (("stem", "stage1_1b", "stage1_2b"), 4, "channel"),
        (("stage1_1a",), 4, "channel"),
        (("stage1_2a",), 4, "channel"),
        (("stage2_1a",), 6, "channel"),
        (("stage2_1b", "stage2_2b"), 6, "channel"),
        (("stage2_2a",), 6, "channel"),
    ]


def test_the_readout_is_no_group():
    groups = unit_groups(ConvSNN((1, 8, 8), 3, (4,), (5,), readout="spikes"))
    assert [(group.name, group.kind) for group in groups] == [("conv1", "channel"), ("fc1", "neuron")]


def test_tied_blocks_die_together():
    network = ResidualSNN((1, 8, 8), 3, channels=(4,))
    group = unit_groups(network)[0]
    set_alive(network, group, torch.tensor([True, False, True, True]))
    for name in group.blocks:
        assert network.block(name).neuron.alive.tolist() == [True, False, True, True]


@pytest.mark.parametrize("make", [MLP, ConvSNN, partial(ResidualSNN, channels=(4, 6), stem_pool=2)])
def test_a_synapse_lives_when_silencing_it_could_matter(make):
    """Brute force: an input column or output row is live if a living unit is on either side of it."""
    torch.manual_seed(0)
    network = make((2, 8, 8), 3)
    for group in unit_groups(network):
        alive = torch.rand(group.units) > 0.4
        alive[0] = True
        set_alive(network, group, alive)
    names = [name for name, _ in network.named_blocks()]
    for name, _ in network.named_synapses():
        block = network.block(name.split(".")[0])
        source = block.skip_from if "." in name else ([None, *names])[names.index(name)]
        before = None if source is None else network.block(source).neuron.alive
        live = live_synapses(network, name)
        for out in range(live.shape[0]):
            for inp in range(live.shape[1]):
                expected = block.neuron is None or bool(block.neuron.alive[out])
                if before is not None:
                    expected &= bool(before[inp // (live.shape[1] // len(before))])
                assert live[out, inp].all() == live[out, inp].any() == expected


def test_grouped_convolutions_see_their_own_inputs():
    first = Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4))
    second = Block(nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), neuron=IF(6))
    network = Network({"a": first, "b": second, "out": Block(nn.Linear(6 * 16, 2))}, (1, 4, 4))
    alive_units(network, unit_groups(network)[0])[3] = False
    live = live_synapses(network, "b")
    assert live[:3].all()
    assert live[3:, 0].all()
    assert not live[3:, 1].any()


@pytest.mark.parametrize("outputs", [4, 8])
def test_a_depthwise_synapse_dies_with_its_input(outputs):
    """Channel k of a depthwise convolution hears channel k alone (or k // 2 with two outputs a channel)."""
    first = Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4))
    second = Block(nn.Conv2d(4, outputs, 3, padding=1, groups=4, bias=False), neuron=IF(outputs))
    network = Network({"a": first, "b": second, "out": Block(nn.Linear(outputs * 16, 2))}, (1, 4, 4))
    network.block("a").neuron.alive[2] = False
    network.block("b").neuron.alive[0] = False
    expected = [k != 0 and k // (outputs // 4) != 2 for k in range(outputs)]
    assert live_synapses(network, "b").flatten(1).all(1).tolist() == expected
    assert live_synapses(network, "b").flatten(1).any(1).tolist() == expected


def test_identity_skip_ties_only_what_it_joins():
    conv = partial(nn.Conv2d, 4, 4, 3, padding=1, bias=False)
    blocks = {
        "a": Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4)),
        "b": Block(conv(), neuron=IF(4)),
        "c": Block(conv(), neuron=IF(4), skip=IdentitySkip(), skip_from="a"),
        "out": Block(nn.Linear(64, 2)),
    }
    assert [group.name for group in unit_groups(Network(blocks, (1, 4, 4)))] == ["a+c", "b"]


def test_a_depthwise_convolution_ties_its_channels_to_those_that_it_reads():
    blocks = {
        "a": Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4)),
        "b": Block(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), neuron=IF(4)),
        "c": Block(nn.Conv2d(4, 6, 1, bias=False), neuron=IF(6)),
        "d": Block(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), neuron=IF(6)),
        "out": Block(nn.Linear(6 * 16, 2)),
    }
    assert [group.blocks for group in unit_groups(Network(blocks, (1, 4, 4)))] == [("a", "b"), ("c", "d")]
