"""Neurons: options, units that are dead, and state that is never kept."""

import math
from functools import partial

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF

ALL = [IF, LIF, ParametricLIF, LinearLeakIF]


@pytest.mark.parametrize("neuron", ALL)
@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 2, 3, 5, 5), (1, 1, 3)])
def test_shape_dtype_and_no_memory_between_forwards(neuron, shape):
    module = neuron(3)
    current = torch.rand(*shape, dtype=torch.float64)
    first, second = module.double()(current), module(current)
    assert first.shape == shape
    assert first.dtype == torch.float64
    assert torch.equal(first, second)
    assert set(module.state_dict()) <= {"alive", "decay_logit"}


@pytest.mark.parametrize("neuron", ALL)
def test_a_dead_unit_never_fires_and_sends_no_gradient(neuron):
    module = neuron(3)
    module.alive[1] = False
    current = torch.full((4, 2, 3, 2, 2), 5.0, requires_grad=True)
    spikes = module(current)
    spikes.sum().backward()
    assert spikes[:, :, 1].sum() == 0
    assert spikes[:, :, [0, 2]].min() == 1
    assert current.grad[:, :, 1].abs().sum() == 0


def test_tau_is_a_decay():
    assert LIF(1, tau=2.0).decay == math.exp(-0.5)
    assert float(ParametricLIF(1, tau=2.0).leak_amount()) == pytest.approx(math.exp(-0.5))


def test_the_decay_of_a_parametric_lif_is_learned():
    module = ParametricLIF(2, decay=0.4)
    module(torch.rand(5, 2, 2)).sum().backward()
    assert float(module.leak_amount()) == pytest.approx(0.4)
    assert module.decay_logit.grad != 0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (partial(IF, threshold=0.0), "threshold"),
        (partial(IF, reset="soft"), "reset"),
        (partial(IF, surrogate="step"), "surrogate"),
        (partial(LIF, decay=0.0), "decay"),
        (partial(LIF, decay=1.2), "decay"),
        (partial(LIF, decay=0.5, tau=2.0), "decay and tau"),
        (partial(LIF, tau=-1.0), "tau"),
        (partial(ParametricLIF, decay=1.0), "decay"),
        (partial(LinearLeakIF, leak_per_step=-0.1), "leak_per_step"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make(3)
