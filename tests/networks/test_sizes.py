"""The sizes of a network of one's own: mistakes are refused when the module is made, and name the block."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.networks import VGG, Block, ConvSNN, FixedNorm, GainNorm, IdentitySkip, Network, ResidualSNN
from spikefit.networks.norms import make_norm
from spikefit.networks.sizes import output_shapes
from spikefit.neurons import IF

SHAPE = (1, 8, 8)


class Own(Network):
    """A network whose blocks are given."""


class OwnLogits(Network):
    """A network whose readout has two outputs per class."""

    def logits(self, output):
        return super().logits(output).unflatten(1, (-1, 2)).sum(2)


class OwnSynapses(nn.Module):
    """Synapses that are neither a convolution nor a linear layer: they keep every second value."""

    out_features = 32

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x[:, ::2] * self.weight


def made(blocks: dict[str, Block], shape=SHAPE, classes=10, cls: Callable = Own) -> SpikingClassifier:
    return SpikingClassifier(lambda given, _: cls(blocks, given), shape, classes)


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": 1 if kernel == 3 else 0, "bias": False, **options})


def hidden(layer, **options):
    return Block(layer, neuron=IF(layer.weight.shape[0]), **options)


def residual(skip, **options):
    first = hidden(conv(1, 4), pool=2)
    return {
        "a": first,
        "b": hidden(conv(4, 6)),
        "c": hidden(conv(6, 4, **options), skip=skip, skip_from="a"),
        "out": Block(nn.Linear(64, 10)),
    }


WRONG = {
    "linear": ({"fc": hidden(nn.Linear(60, 8)), "out": Block(nn.Linear(8, 10))}, r"block fc: .* 60 inputs.* 64 values"),
    "after pooling": (
        {"a": hidden(conv(1, 4), pool=2), "out": Block(nn.Linear(4 * 64, 10))},
        r"block out: .* 256 inputs.* 64 values, the output of block a of shape \(4, 4, 4\)",
    ),
    "channels": (
        {"a": hidden(conv(1, 4)), "b": hidden(conv(3, 4)), "out": Block(nn.Linear(256, 10))},
        r"block b: .* 3 channels.* shape \(4, 8, 8\)",
    ),
    "no map": (
        {"fc": hidden(nn.Linear(64, 8)), "b": hidden(conv(8, 4)), "out": Block(nn.Linear(4, 10))},
        r"block b: .* 8 channels.* shape \(8,\)",
    ),
    "empty": (
        {"a": hidden(conv(1, 4), pool=9), "out": Block(nn.Linear(4, 10))},
        r"block a: nothing is left of a map of 8x8",
    ),
    "identity": (residual(IdentitySkip(), stride=2), r"block c: .* skip .*\(4, 4, 4\).*expected .*\(4, 2, 2\)"),
    "skip channels": (residual(conv(5, 4, 1)), r"block c: .* skip .* 5 channels.* shape \(4, 4, 4\)"),
    "skip size": (residual(conv(4, 4, 1, stride=2)), r"block c: .* skip .*\(4, 2, 2\).*expected .*\(4, 4, 4\)"),
    "skip of a vector": (
        {
            "a": hidden(nn.Linear(64, 8)),
            "b": hidden(nn.Linear(8, 8), skip=IdentitySkip(), skip_from="a"),
            "out": Block(nn.Linear(8, 10)),
        },
        r"block b: its skip .* expects a map .*, but receives the output of block a of shape \(8,\)",
    ),
    "norm": (
        {"fc": Block(nn.Linear(64, 8), make_norm("batch", 6), IF(8)), "out": Block(nn.Linear(8, 10))},
        r"block fc: the norm PositiveBatchNorm has 6 channels, expected 8",
    ),
    "neurons": (
        {"fc": Block(nn.Linear(64, 8), neuron=IF(6)), "out": Block(nn.Linear(8, 10))},
        r"block fc: the neuron IF has 6 units, expected 8",
    ),
    "padding": (
        {"a": hidden(conv(1, 4, padding="same")), "out": Block(nn.Linear(256, 10))},
        r"block a: got padding 'same', expected numbers",
    ),
    "readout": ({"out": Block(nn.Linear(64, 7))}, r"readout out: .* 7 outputs.*num_classes: 10"),
    "readout of spikes": ({"out": hidden(nn.Linear(64, 12))}, r"readout out: .* 12 outputs.*num_classes: 10"),
    "readout of maps": ({"out": Block(conv(1, 10))}, r"readout out: .*shape \(10, 8, 8\).*num_classes: 10"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_size_is_refused_and_named(case):
    blocks, message = WRONG[case]
    with pytest.raises(ConfigurationError, match=f"Own, {message}"):
        made(blocks)


def test_a_network_for_other_inputs_than_the_data_is_refused():
    blocks = {"out": Block(nn.Linear(60, 10))}
    with pytest.raises(ConfigurationError, match=r"Own: has input_shape \(60,\), but the data have .*\(1, 8, 8\)"):
        SpikingClassifier(lambda *_: Own(blocks, (60,)), SHAPE, 10)
    blocks = {"a": hidden(conv(1, 4)), "out": Block(nn.Linear(256, 10))}
    with pytest.raises(ConfigurationError, match=r"Own: has input_shape \(1, 8, 8\), but the data have .*\(4, 4, 4\)"):
        SpikingClassifier(lambda *_: Own(blocks, SHAPE), (4, 4, 4), 10)


def test_something_else_than_a_network_is_refused():
    with pytest.raises(ConfigurationError, match=r"network: got Sequential, expected .*spikefit.networks.Network"):
        SpikingClassifier(lambda *_: nn.Sequential(nn.Linear(64, 10)), SHAPE, 10)


RIGHT = {
    "identity": residual(IdentitySkip()),
    "a skip of its own": residual(nn.Identity()),
    "strided skip": {
        "a": hidden(conv(1, 4)),
        "b": hidden(conv(4, 6, stride=2)),
        "c": hidden(conv(6, 6), skip=conv(4, 6, 1, stride=2, padding=0), skip_from="a"),
        "out": Block(nn.Linear(96, 10)),
    },
    "readout of spikes": {"a": hidden(nn.Linear(64, 8)), "out": hidden(nn.Linear(8, 10))},
    "dilated": {
        "a": hidden(conv(1, 4, (3, 1), padding=(1, 2), dilation=(2, 1), stride=(1, 2)), pool=2, pool_kind="max"),
        "out": Block(nn.Linear(36, 10)),
    },
    "readout without pooling": {"a": hidden(conv(1, 4, groups=1, bias=True)), "out": Block(nn.Linear(256, 10))},
}


@pytest.mark.parametrize("case", RIGHT)
def test_sizes_are_those_of_the_forward_pass(case):
    network = made(RIGHT[case]).network
    found = {}
    for name, block in network.named_blocks():
        block.register_forward_hook(lambda _, __, y, name=name: found.update({name: tuple(y.shape[2:])}))
    network.eval()(torch.rand(2, 3, *SHAPE))
    assert output_shapes(network) == found


@pytest.mark.parametrize("make", [ConvSNN, VGG, ResidualSNN])
def test_the_networks_of_the_package_have_the_right_sizes(make):
    options = {"plan": (4, "P", 6, "R")} if make is VGG else {"channels": (4, 6)}
    module = SpikingClassifier(lambda *given: make(*given, **options), (2, 9, 11), 3)
    assert output_shapes(module.network)["readout"] == (3,)


def test_synapses_of_another_kind_are_left_alone():
    own = Block(OwnSynapses(), neuron=IF(32))
    module = made({"own": own, "fc": hidden(nn.Linear(32, 6)), "out": Block(nn.Linear(6, 10))}, (64,))
    assert module(torch.rand(2, 3, 64)).shape == (3, 10)
    with pytest.raises(ConfigurationError, match=r"Own, block out: .* 5 inputs"):
        made({"own": own, "fc": hidden(nn.Linear(32, 6)), "out": Block(nn.Linear(5, 10))}, (64,))


def test_a_network_with_its_own_logits_may_have_other_outputs():
    assert made({"out": Block(nn.Linear(64, 20))}, cls=OwnLogits)(torch.rand(2, 3, *SHAPE)).shape == (3, 10)


def test_only_norms_that_fold_are_accepted():
    for norm in (None, FixedNorm(8), GainNorm(8), make_norm("batch", 8)):
        assert Block(nn.Linear(4, 8), norm, IF(8)).norm is norm
    message = "norm: got BatchNorm1d, expected None, or PositiveBatchNorm, FixedNorm or GainNorm.*make_norm"
    with pytest.raises(ConfigurationError, match=message):
        Block(nn.Linear(4, 8), nn.BatchNorm1d(8), IF(8))
