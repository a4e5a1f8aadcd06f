"""Blocks: the positive norm, constant inputs, residual wiring, shapes."""

from functools import partial

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.networks import MLP, VGG, Block, ConvSNN, IdentitySkip, Network, PositiveBatchNorm, ResidualSNN
from spikefit.neurons import IF, LIF


@pytest.mark.parametrize("shape", [(20, 3), (20, 3, 4, 4)])
def test_positive_norm_is_batch_norm_where_gains_are_positive(shape):
    ours, theirs = PositiveBatchNorm(3), (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    for norm in (ours, theirs):
        norm.weight.data = torch.tensor([0.5, 1.0, 2.0])
        norm.bias.data = torch.tensor([0.1, -0.2, 0.3])
    for _ in range(3):
        x = torch.randn(shape) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_the_gain_stays_positive_whatever_the_weight():
    norm = PositiveBatchNorm(3)
    norm.weight.data = torch.tensor([-2.0, 0.0, 3.0])
    assert norm.gain.tolist() == pytest.approx([2.0, norm.minimum_gain, 3.0])


def test_the_folded_norm_is_the_norm():
    norm = PositiveBatchNorm(4).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm(torch.randn(50, 4, dtype=torch.float64) * 3)
    norm.eval()
    x = torch.randn(7, 4, dtype=torch.float64)
    gain, bias = norm.folded()
    torch.testing.assert_close(norm(x), gain * (x + bias))


def test_a_constant_image_goes_through_the_first_synapses_once(monkeypatch):
    network = ConvSNN((1, 8, 8), 3, channels=(4,), hidden=()).eval()
    seen = []
    network.block("conv1").synapses.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    image = torch.rand(1, 5, 1, 8, 8)
    constant = network(image.expand(6, -1, -1, -1, -1))
    materialised = network(image.repeat(6, 1, 1, 1, 1))
    assert seen == [5, 30]
    torch.testing.assert_close(constant, materialised)


def test_a_residual_input_is_added_in_front_of_the_norm():
    network = ResidualSNN((2, 8, 8), 3, channels=(4, 6)).eval()
    x = (torch.rand(3, 2, 2, 8, 8) < 0.5).float()
    blocks = dict(network.named_blocks())
    stem = blocks["stem"](x)
    a = blocks["stage1_1a"](stem)
    b = blocks["stage1_1b"]
    folded = b.norm(b.synapses(a.flatten(0, 1)) + b.skip.weight * stem.flatten(0, 1))
    expected = b.neuron(folded.unflatten(0, (3, 2)))
    assert torch.equal(b(a, stem), expected)
    c, d = blocks["stage2_1a"], blocks["stage2_1b"]
    assert isinstance(b.skip, IdentitySkip)
    assert isinstance(d.skip, nn.Conv2d)
    assert c.synapses.stride == d.skip.stride == (2, 2)
    assert d.skip_from == "stage1_1b"


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


def test_too_many_poolings_are_named_before_anything_runs():
    with pytest.raises(ConfigurationError, match=r"conv4.*pool 2"):
        ConvSNN((1, 8, 8), 3, channels=(2, 2, 2, 2))


def test_wrong_wiring_is_refused():
    dense = partial(nn.Linear, 4, 4)
    with pytest.raises(ConfigurationError, match="skip_from of block a"):
        Network({"a": Block(dense(), neuron=IF(4), skip=IdentitySkip(), skip_from="b"), "b": Block(dense())}, (4,))
    with pytest.raises(ConfigurationError, match="only the last block"):
        Network({"a": Block(dense()), "b": Block(dense())}, (4,))
    with pytest.raises(ConfigurationError, match="both or neither"):
        Block(dense(), skip=IdentitySkip())
    with pytest.raises(ConfigurationError, match="readout"):
        MLP((4,), 2, readout="voltage")
    with pytest.raises(ConfigurationError, match="plan"):
        VGG((3, 32, 32), 2, plan="vgg12")
    with pytest.raises(ConfigurationError, match="input_shape"):
        ConvSNN((64,), 2)


def test_a_neuron_factory_gets_the_number_of_units():
    network = ConvSNN((1, 8, 8), 3, (4, 6), (5,), neuron=partial(LIF, decay=0.25))
    assert [block.neuron.units for _, block in network.named_blocks() if block.neuron] == [4, 6, 5]
    assert network.block("fc1").neuron.decay == 0.25
