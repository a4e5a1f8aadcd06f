"""Weight rescaling of QP-SNN, compared with its formula."""

from functools import partial

import pytest
import torch

from spikefit.quantize import RescaledUniform


def weight(shape=(5, 40), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.05


def test_four_values_by_hand():
    """Mean magnitude 1: 2 is clipped to 1, 0.3 goes to 1/3, and -0.7 to -1, which is nearer than -1/3."""
    w = torch.tensor([[2.0, -1.0, 0.3, -0.7]])
    quantizer = RescaledUniform(w)
    torch.testing.assert_close(quantizer(w), torch.tensor([[1.0, -1.0, 1 / 3, -1.0]]))
    stored = quantizer.integers(w)
    assert stored.integer.tolist() == [[3, -3, 1, -3]]
    assert stored.bits == 3


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("scope", ["layer", "channel"])
@pytest.mark.parametrize("coefficient", ["mean", "max"])
def test_each_weight_takes_the_nearest_of_equal_steps_between_plus_and_minus_gamma(coefficient, scope, bits):
    w = weight() * torch.tensor([[1.0], [2.0], [3.0], [0.1], [1.0]], dtype=torch.float64)
    quantised = RescaledUniform(w, bits, coefficient, scope)(w)
    for own, found in zip(w, quantised, strict=True):
        seen = own.abs() if scope == "channel" else w.abs()
        gamma = seen.mean() if coefficient == "mean" else seen.max()
        values = torch.linspace(-1, 1, 2**bits, dtype=torch.float64) * gamma
        torch.testing.assert_close(found, values[(own[:, None] - values).abs().argmin(dim=1)])


def test_rescaling_makes_use_of_all_values():
    """Weights of about a twentieth use only two of the four values if they are rounded without rescaling."""
    values = torch.linspace(-1, 1, 4, dtype=torch.float64)
    assert len((weight().flatten()[:, None] - values).abs().argmin(dim=1).unique()) == 2
    assert len(RescaledUniform(weight(), scope="layer")(weight()).unique()) == 4


def test_the_gradient_is_the_identity_also_where_weights_are_clipped():
    w, upstream = weight().requires_grad_(), weight(seed=1)
    quantizer = RescaledUniform(w.detach())
    assert (w.detach().abs() > quantizer.gamma).any()
    quantizer(w).backward(upstream)
    assert torch.equal(w.grad, upstream)


def test_coefficients_follow_in_training_and_rest_in_evaluation():
    w = weight()
    quantizer = RescaledUniform(w).eval()
    first = quantizer.gamma.clone()
    quantizer(2 * w)
    assert torch.equal(quantizer.gamma, first)
    quantizer.train()(2 * w)
    torch.testing.assert_close(quantizer.gamma, 2 * first)


@pytest.mark.parametrize("make", [RescaledUniform, partial(RescaledUniform, scope="layer")])
def test_a_slice_keeps_its_values(make):
    w = weight((6, 8, 3, 3))
    quantizer = make(w).eval()
    outputs, inputs = torch.arange(6) % 2 == 1, torch.arange(8) < 5
    small = quantizer.sliced(outputs, inputs)
    kept = w[outputs][:, inputs]
    assert torch.equal(small(kept), quantizer(w)[outputs][:, inputs])
    small.train()(kept)  # what it remembers of living synapses has the new shape


def test_a_channel_of_zeros_stays_near_zero():
    w = weight()
    w[2] = 0
    assert RescaledUniform(w)(w)[2].abs().max() < 1e-300
