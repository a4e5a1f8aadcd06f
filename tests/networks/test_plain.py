"""MLP, ConvSNN and VGG: shapes, options, readouts."""

from functools import partial

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.networks import MLP, VGG, ConvSNN, ResidualSNN
from spikefit.neurons import LIF


@pytest.mark.parametrize("batch", [5, 1])
@pytest.mark.parametrize(
    "make",
    [
        MLP,
        ConvSNN,
        partial(ConvSNN, pool_kind="max"),
        partial(ConvSNN, stride=2, pool=1, hidden=()),
        partial(VGG, plan="vgg9", width=0.125),
        partial(VGG, plan="vgg11", width=0.0625, hidden=(16,)),
        partial(VGG, plan=[4, "P", 6, "R", "P", 8, "P", "P"]),
        partial(ResidualSNN, channels=(4, 6), depth=2, stem_pool=2),
    ],
)
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
def test_every_network_gives_one_output_a_class_and_step(make, batch, readout):
    network = make((3, 32, 32), 7, readout=readout)
    output = network(torch.rand(2, batch, 3, 32, 32)) if batch > 1 else network.eval()(torch.rand(2, 1, 3, 32, 32))
    assert output.shape == (2, batch, 7)
    assert network.readout == readout
    assert network.logits(output).shape == (batch, 7)
    if readout == "spikes":
        assert set(output.unique().tolist()) <= {0.0, 1.0}


def test_logits_are_the_mean_current_or_the_number_of_spikes():
    output = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    assert MLP((4,), 2).logits(output).tolist() == [[1.0, 0.5]]
    assert MLP((4,), 2, readout="spikes").logits(output).tolist() == [[2.0, 1.0]]


def test_layers_of_a_vgg_by_hand():
    """vgg9 at an eighth: 64, 64, P, 128, 128, P, 256, 256, 256, P; 32 -> 4 pixels a side."""
    network = VGG((2, 32, 32), 5, plan="vgg9", width=0.125, hidden=(6,))
    layers = [tuple(block.synapses.weight.shape[:2]) for _, block in network.named_blocks()]
    assert layers == [(8, 2), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (32, 32), (6, 32 * 16), (5, 6)]
    assert [block.pool for _, block in network.named_blocks()] == [1, 2, 1, 2, 1, 1, 2, 1, 1]
    assert all(layer.bias is None for _, layer in network.named_synapses())


def test_a_plan_of_your_own_by_hand():
    """Two P pool by 4; R adds two convolutions; the input of the first is added to the current of the second."""
    network = VGG((3, 16, 16), 5, plan=[8, "P", 12, "R", "P", "R", "P", "P"], width=0.5)
    blocks = dict(network.named_blocks())
    layers = [tuple(block.synapses.weight.shape[:2]) for block in blocks.values()]
    assert layers == [(4, 3), (6, 4), (6, 6), (6, 6), (6, 6), (6, 6), (5, 6)]
    assert [block.pool for block in blocks.values()] == [2, 1, 1, 2, 1, 4, 1]
    sources = {name: block.skip_from for name, block in blocks.items() if block.skip_from}
    assert sources == {"conv4": "conv2", "conv6": "conv4"}
    x = (torch.rand(3, 2, 3, 16, 16) < 0.5).float()
    with torch.no_grad():
        for name in sources:
            blocks[name].synapses.weight.zero_()
            blocks[name].skip.weight.fill_(1.0)
        between = (torch.rand(3, 2, 6, 8, 8) < 0.5).float()
        current = blocks["conv4"].eval().current(torch.rand(3, 2, 6, 8, 8), between)
    torch.testing.assert_close(
        current, between / (1 + blocks["conv4"].norm.eps) ** 0.5, msg="the shortcut alone is left"
    )
    assert network(x).shape == (3, 2, 5)


def test_odd_maps_lose_their_border_in_a_pooling():
    """9 -> conv stride 2 -> 5 -> pool 2 -> 2; 7 -> 4 -> 2."""
    network = ConvSNN((1, 9, 7), 3, channels=(4,), hidden=(), stride=2, pool=2)
    assert network.block("readout").synapses.in_features == 4 * 2 * 2
    assert network(torch.rand(2, 3, 1, 9, 7)).shape == (2, 3, 3)


def test_too_many_poolings_are_named_before_anything_runs():
    with pytest.raises(ConfigurationError, match=r"conv4.*pool 2"):
        ConvSNN((1, 8, 8), 3, channels=(2, 2, 2, 2))
    with pytest.raises(ConfigurationError, match=r"conv\d+.*2x2|conv\d+.*1x1"):
        VGG((3, 16, 16), 3, plan="vgg16", width=0.05)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MLP((4,), 2, readout="voltage"), "readout"),
        (lambda: MLP((4,), 2, hidden=(3, 0)), "hidden"),
        (lambda: MLP((4,), 0), "num_classes"),
        (lambda: VGG((3, 32, 32), 2, plan="vgg12"), "plan"),
        (lambda: VGG((3, 32, 32), 2, plan=[4, "Q"]), "plan"),
        (lambda: VGG((3, 32, 32), 2, plan=["P", 4]), "plan"),
        (lambda: VGG((3, 32, 32), 2, plan=[]), "plan"),
        (lambda: VGG((3, 32, 32), 2, plan=[4, 0]), "plan"),
        (lambda: VGG((3, 32, 32), 2, width=-1.0), "width"),
        (lambda: ConvSNN((64,), 2), "input_shape"),
        (lambda: ConvSNN((1, 8, 8), 2, pool=0), "pool"),
        (lambda: ConvSNN((1, 8, 8), 2, stride=0), "stride"),
        (lambda: ConvSNN((1, 8, 8), 2, kernel=0), "kernel"),
        (lambda: ConvSNN((1, 8, 8), 2, channels=(0,)), "channels"),
        (lambda: ConvSNN((1, 8, 8), 2, pool_kind="median"), "pool_kind"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: got"):
        make()


def test_a_neuron_factory_gets_the_number_of_units():
    network = ConvSNN((1, 8, 8), 3, (4, 6), (5,), neuron=partial(LIF, decay=0.25))
    assert [block.neuron.units for _, block in network.named_blocks() if block.neuron] == [4, 6, 5]
    assert network.block("fc1").neuron.decay == 0.25
