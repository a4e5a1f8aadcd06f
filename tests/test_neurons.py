"""Neurons: options, dead units, and state that is never kept."""

import math
from functools import partial

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.neurons import IF, LIF, CubaLIF, LinearLeakIF, ParametricLIF

ALL = [IF, LIF, ParametricLIF, LinearLeakIF, CubaLIF]


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("neuron", ALL)
def test_every_dtype_and_a_last_smaller_batch(neuron, dtype):
    """The smaller batch fires as it does inside the larger one: neurons of different samples know nothing of each
    other, and nothing of the batch before."""
    module = neuron(3).to(dtype)
    current = (torch.rand(6, 5, 3) * 2 - 0.3).to(dtype).requires_grad_()
    spikes = module(current)
    spikes.sum().backward()
    assert spikes.dtype == current.grad.dtype == dtype
    assert 0 < spikes.mean() < 1
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(module(current[:, 3:]), spikes[:, 3:])


@pytest.mark.parametrize("neuron", ALL)
def test_a_float_module_takes_bfloat16_currents(neuron):
    """What mixed precision gives it: parameters in float32, currents from a convolution in bfloat16."""
    module = neuron(3)
    spikes = module(torch.rand(4, 2, 3, dtype=torch.bfloat16, requires_grad=True))
    spikes.sum().backward()
    assert spikes.dtype == torch.bfloat16
    for parameter in module.parameters():
        assert parameter.grad.dtype == torch.float32


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
    assert ParametricLIF(1, tau=2.0).leak_amount().item() == pytest.approx(math.exp(-0.5))


def test_the_decay_of_a_parametric_lif_is_learned():
    """The gradient of its logit, from a loop that autograd differentiates: sigmoid surrogate of sharpness 1."""
    module = ParametricLIF(2, decay=0.4, surrogate="sigmoid", alpha=1.0).double()
    assert module.leak_amount().item() == pytest.approx(0.4)
    current = torch.rand(5, 2, 2, dtype=torch.float64) + 0.2
    module(current).sum().backward()
    logit = torch.tensor(module.decay_logit.item(), dtype=torch.float64, requires_grad=True)
    u, total = torch.zeros(2, 2, dtype=torch.float64), 0.0
    for step in current:
        v = logit.sigmoid() * u + step
        total = total + (v - 1).sigmoid().sum()  # its derivative is the surrogate's
        u = v - (v >= 1).double()
    total.backward()
    assert logit.grad.abs() > 0.01
    torch.testing.assert_close(module.decay_logit.grad, logit.grad)


def test_what_a_print_of_the_network_shows():
    assert repr(LIF(3, decay=0.25)) == "LIF(3, threshold=1.0, reset='subtract', surrogate='atan', decay=0.25)"
    assert "leak_per_step=0.2" in repr(LinearLeakIF(3, leak_per_step=0.2))


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
        (partial(ParametricLIF, tau=1e-3), "decay"),  # exp(-1000) is 0 in double precision
        (partial(LinearLeakIF, leak_per_step=-0.1), "leak_per_step"),
        (partial(IF, alpha=0.0), "alpha"),  # no gradient would ever pass
        (partial(IF, alpha=-2.0), "alpha"),  # training would climb
        (partial(IF, threshold=math.nan), "threshold"),
        (partial(LIF, decay=math.nan), "decay"),
        (partial(LIF, tau=math.nan), "tau"),
        (partial(LinearLeakIF, leak_per_step=math.nan), "leak_per_step"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: got"):
        make(3)
