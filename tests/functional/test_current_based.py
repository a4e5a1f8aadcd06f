"""Synaptic currents and neurons that fire several times per step, compared with loops over their equations."""

import math
from functools import partial

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.functional.current_based import several_spikes, synaptic_filter
from spikefit.functional.dynamics import Dynamics
from spikefit.functional.lif import multi_step
from spikefit.networks import MLP, GainNorm
from spikefit.networks.blocks import Block
from spikefit.neurons import LIF, CubaLIF


def filtered(delivered, decay):
    current, kept = torch.zeros_like(delivered[0]), []
    for arriving in delivered:
        current = decay * (current + arriving)
        kept.append(current)
    return torch.stack(kept)


@pytest.mark.parametrize("shape", [(7, 2, 3), (1, 2, 3), (5, 2, 3, 4, 4)])
def test_the_filter_is_its_recurrence(shape):
    delivered = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(synaptic_filter(delivered, 0.7), filtered(delivered, 0.7), rtol=1e-12)
    decays = torch.tensor([0.5, 0.75, 0.9], dtype=torch.float64)
    expected = filtered(delivered, decays.view(-1, *[1] * (delivered.dim() - 3)))
    assert torch.allclose(synaptic_filter(delivered, decays), expected, rtol=1e-12)
    delivered.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: synaptic_filter(x, 0.7), delivered)


def test_spikes_by_hand():
    """Threshold 1, half of the membrane is kept: 3.5 fires three times, 0.5 / 2 + 0.7 not, 0.475 + 9 fires four at
    most, and 5.475 / 2 leaves two more."""
    current = torch.tensor([3.5, 0.7, 9.0, 0.0, -7.0]).view(5, 1, 1)
    counts = several_spikes(current, Dynamics(1.0, "decay"), 0.5, 4)
    assert counts.flatten().tolist() == [3, 0, 4, 2, 0]


def test_one_spike_a_step_is_a_lif():
    current = torch.randn(9, 3, 4, dtype=torch.float64) + 0.4
    dynamics = Dynamics(0.8, "decay")
    assert torch.equal(several_spikes(current, dynamics, 0.6, 1), multi_step(current, dynamics, 0.6))
    module, plain = CubaLIF(4, 0.3, 0.6), LIF(4, decay=0.6)
    assert torch.equal(module(current), plain(current))
    assert torch.equal(module.filtered(current), synaptic_filter(current, 0.3))


def test_the_gradient_is_the_surrogate_around_the_nearest_multiple():
    """Through one step: 2.9 is 0.1 below 3, 0.2 is 0.8 below 1, 9 is 5 above 4."""
    current = torch.tensor([2.9, 0.2, 9.0], dtype=torch.float64).view(1, 1, 3).requires_grad_()
    several_spikes(current, Dynamics(1.0, "decay", surrogate="triangle", alpha=0.5), 0.5, 4).sum().backward()
    assert current.grad.flatten().tolist() == pytest.approx([0.5 * (1 - 0.05), 0.5 * (1 - 0.4), 0.0])


def test_no_gradient_flows_through_the_reset():
    """Two steps: the second sees the first through the decay alone."""
    current = torch.tensor([2.2, 0.4], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    several_spikes(current, Dynamics(1.0, "decay", surrogate="sigmoid", alpha=1.0), 0.5, 4)[1].backward()
    slope = lambda x: 1 / (2 + 2 * math.cosh(x))  # noqa: E731  sigmoid's derivative
    at = slope(0.5 * 0.2 + 0.4 - 1)
    assert current.grad.flatten().tolist() == pytest.approx([0.5 * at, at])


def test_a_block_filters_in_front_of_its_norm():
    block = Block(torch.nn.Linear(3, 4, bias=False), GainNorm(4), CubaLIF(4, 0.6, 0.8, max_spikes=5)).double().eval()
    with torch.no_grad():
        block.norm.weight.uniform_(0.5, 2)
        block.norm.running_var.uniform_(0.5, 2)
    x = torch.rand(6, 2, 3, dtype=torch.float64)
    gain, bias = block.norm.folded()
    assert not bias.any()
    expected = filtered(x @ block.synapses.weight.T, 0.6) * gain
    assert torch.allclose(block.current(x), expected)
    frame = x[:1].expand(6, -1, -1)
    assert torch.allclose(block.current(frame), filtered(frame @ block.synapses.weight.T, 0.6) * gain)


def test_a_gain_norm_divides_by_the_root_mean_square():
    norm = GainNorm(3, eps=0.0, momentum=None).double()
    x = torch.randn(20, 3, 4, 4, dtype=torch.float64) + 2
    power = x.square().mean(dim=(0, 2, 3))
    assert torch.allclose(norm(x), x / power.sqrt().view(-1, 1, 1), rtol=1e-6)
    assert torch.allclose(norm.running_var, power * 320 / 319, rtol=1e-6)
    assert not norm.running_mean.any()
    x.requires_grad_()
    assert torch.autograd.gradcheck(norm, x[:2].detach().requires_grad_())
    assert not norm.bias.requires_grad


def test_the_readout_fires_once_a_step():
    network = MLP((4,), 3, (5,), neuron=partial(CubaLIF, max_spikes=7), readout="spikes", norm="gain")
    assert [block.neuron.max_spikes for _, block in network.named_blocks()] == [7, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synaptic_decay": 1.0}, "synaptic_decay: got 1.0"),
        ({"synaptic_decay": 0.0}, "synaptic_decay: got 0.0"),
        ({"decay": 1.5}, "decay: got 1.5"),
        ({"max_spikes": 0}, "max_spikes: got 0"),
    ],
)
def test_what_is_not_allowed(options, message):
    with pytest.raises(ConfigurationError, match=message):
        CubaLIF(3, **options)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ConfigurationError, match="norm: got 'layer', expected one of 'batch', 'gain'"):
        MLP((4,), 3, norm="layer")
