"""Blocks: positive norm, constant inputs and invalid wiring."""

from functools import partial

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.networks import Block, ConvSNN, IdentitySkip, Network, PositiveBatchNorm
from spikefit.neurons import IF


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


def test_without_a_momentum_the_statistics_are_a_cumulative_average():
    ours, theirs = PositiveBatchNorm(2, momentum=None), nn.BatchNorm1d(2, momentum=None)
    for _ in range(3):
        x = torch.randn(10, 2) + 1
        ours(x)
        theirs(x)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_a_norm_refuses_other_shapes():
    with pytest.raises(ValueError, match="2D or 4D"):
        PositiveBatchNorm(3)(torch.rand(2, 3, 4))


@pytest.mark.parametrize("training", [False, True])
def test_a_constant_image_goes_through_the_first_synapses_once(training):
    """Same currents, spikes and gradients as with repeated frames, also with batch statistics in training."""
    torch.manual_seed(0)
    network = ConvSNN((1, 8, 8), 3, channels=(4,), hidden=()).double().train(training)
    seen = []
    network.block("conv1").synapses.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    image = torch.rand(1, 5, 1, 8, 8, dtype=torch.float64)
    gradients = []
    for frames in (image.expand(6, -1, -1, -1, -1), image.repeat(6, 1, 1, 1, 1)):
        network.zero_grad()
        output = network(frames)
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        gradients.append([output.detach(), *(p.grad.clone() for p in network.parameters())])
    assert seen == [5, 30]
    for once, written_out in zip(*gradients, strict=True):
        torch.testing.assert_close(once, written_out)


def test_a_single_frame_and_a_batch_of_one_are_no_constant_input():
    """A stride of 0 in a dimension other than time is not a constant image."""
    block = Block(nn.Conv2d(1, 2, 3), neuron=IF(2))
    frames = torch.rand(4, 1, 1, 5, 5)
    materialised = torch.cat([block.current(frames)] * 3, dim=1)
    torch.testing.assert_close(block.current(frames.expand(-1, 3, -1, -1, -1)), materialised)


def test_a_constant_input_with_a_residual_input_is_not_treated_as_constant():
    block = Block(nn.Conv2d(2, 2, 1), neuron=IF(2), skip=IdentitySkip(0.5), skip_from="before")
    frame, skip = torch.rand(1, 3, 2, 4, 4), torch.rand(5, 3, 2, 4, 4)
    current = block.current(frame.expand(5, -1, -1, -1, -1), skip)
    torch.testing.assert_close(current, block.synapses(frame[0]) + 0.5 * skip)


def test_pooling_by_hand():
    spikes = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]).view(1, 1, 1, 3, 3)
    conv = partial(nn.Conv2d, 1, 1, 1)
    assert Block(conv(), neuron=IF(1), pool=2).pooled(spikes).tolist() == [[[[[0.5]]]]]
    assert Block(conv(), neuron=IF(1), pool=2, pool_kind="max").pooled(spikes).tolist() == [[[[[1.0]]]]]
    assert torch.equal(Block(conv(), neuron=IF(1)).pooled(spikes), spikes)
    with pytest.raises(ConfigurationError, match="pool_kind"):
        Block(conv(), pool_kind="median")


def test_a_pooling_after_a_linear_layer_is_refused():
    with pytest.raises(ConfigurationError, match="pool: got 2 after a linear layer"):
        Block(nn.Linear(4, 4), neuron=IF(4), pool=2)


def test_a_linear_block_flattens_channel_first():
    block = Block(nn.Linear(12, 2, bias=False))
    x = torch.rand(3, 2, 3, 2, 2)
    expected = torch.einsum("tbchw,ochw->tbo", x, block.synapses.weight.view(2, 3, 2, 2))
    torch.testing.assert_close(block(x), expected)


def test_wrong_wiring_is_refused():
    dense = partial(nn.Linear, 4, 4)
    with pytest.raises(ConfigurationError, match="skip_from of block a"):
        Network({"a": Block(dense(), neuron=IF(4), skip=IdentitySkip(), skip_from="b"), "b": Block(dense())}, (4,))
    with pytest.raises(ConfigurationError, match="skip_from of block a"):
        Network({"a": Block(dense(), neuron=IF(4), skip=IdentitySkip(), skip_from="a"), "b": Block(dense())}, (4,))
    forward = {
        "a": Block(dense(), neuron=IF(4)),
        "b": Block(dense(), neuron=IF(4), skip=IdentitySkip(), skip_from="c"),
        "c": Block(dense(), neuron=IF(4)),
        "d": Block(dense()),
    }
    with pytest.raises(ConfigurationError, match=r"skip_from of block b: got 'c', expected one of \['a'\]"):
        Network(forward, (4,))
    with pytest.raises(ConfigurationError, match="only the last block"):
        Network({"a": Block(dense()), "b": Block(dense())}, (4,))
    for half in ({"skip": IdentitySkip()}, {"skip_from": "b"}):
        with pytest.raises(ConfigurationError, match="both or neither"):
            Block(dense(), **half)
