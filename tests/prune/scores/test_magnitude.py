"""Magnitude and random scores of units."""

import torch

from spikefit.losses import CrossEntropy
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.prune import Magnitude, Random


def test_magnitude_is_the_mean_absolute_live_weight():
    network = ConvSNN((1, 8, 8), 3, (3, 4), (5,))
    network.block("conv1").neuron.alive[0] = False
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    expected = network.block("conv2").synapses.weight[:, 1:].abs().mean((1, 2, 3))
    torch.testing.assert_close(scores["conv2"], expected)


def test_tied_blocks_add_their_magnitudes():
    """The stem and the second convolution of the pair, each the mean of its incoming weights."""
    network = ResidualSNN((1, 8, 8), 3, channels=(4,))
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    rows = [network.block(name).synapses.weight.abs().mean((1, 2, 3)) for name in ("stem", "stage1_1b")]
    torch.testing.assert_close(scores["stem+stage1_1b"], rows[0] + rows[1])


def test_the_weights_of_a_convolved_shortcut_are_incoming_weights_too():
    network = ResidualSNN((1, 8, 8), 3, channels=(4, 6))
    block = network.block("stage2_1b")
    weights = torch.cat([block.synapses.weight.flatten(1), block.skip.weight.flatten(1)], dim=1)
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    torch.testing.assert_close(scores["stage2_1b"], weights.abs().mean(1))


def test_random_is_seeded_and_leaves_the_global_state_alone():
    network = ConvSNN((1, 8, 8), 3, (3, 4), (5,))
    state = torch.get_rng_state()
    first, _ = Random(1).accumulate(network, [], CrossEntropy())
    again, _ = Random(1).accumulate(network, [], CrossEntropy())
    other, _ = Random(2).accumulate(network, [], CrossEntropy())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv2"], other["conv2"])
