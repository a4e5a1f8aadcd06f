"""Rounding, lookup and their gradients, compared with the documented formulae."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from spikefit.functional.quantize import assign, codebook_lookup, round_ste, scale_gradient, straight_through


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 9))
def test_assignment_is_the_nearest_value(seed, groups, levels):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, 40, dtype=torch.float64, generator=generator)
    codebook = torch.randn(groups, levels, dtype=torch.float64, generator=generator).sort(dim=1).values
    distance = (weight[:, :, None] - codebook[:, None, :]).abs()
    found = codebook.gather(1, assign(weight, codebook))
    torch.testing.assert_close((weight - found).abs(), distance.min(dim=2).values, rtol=0, atol=0)


def test_a_weight_on_a_midpoint_takes_the_lower_value():
    codebook = torch.tensor([[-1.0, 1.0, 3.0]])
    assert assign(torch.tensor([[0.0, 2.0, 2.1]]), codebook).tolist() == [[0, 1, 2]]
    two = codebook.repeat(2, 1)
    assert assign(torch.tensor([[0.0], [2.0]]), two).tolist() == [[0], [1]]


def test_gradients_of_the_lookup_are_the_written_ones():
    """dL/dW passes straight through; dL/dc_m sums it over the weights assigned to m."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 30, generator=generator, requires_grad=True)
    codebook = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.5, 2.0]], requires_grad=True)
    upstream = torch.randn(2, 30, generator=generator)
    codebook_lookup(weight, codebook).backward(upstream)
    assert torch.equal(weight.grad, upstream)
    nearest = (weight[:, :, None] - codebook[:, None, :]).abs().argmin(2)
    expected = torch.stack([torch.zeros(3).index_add(0, nearest[group], upstream[group]) for group in range(2)])
    torch.testing.assert_close(codebook.grad, expected)


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20))
def test_straight_through_gives_the_value_to_the_last_bit(values):
    x = torch.tensor(values, requires_grad=True)
    value = (x.detach() * 0.3).round() * 0.7
    result = straight_through(x, value)
    result.sum().backward()
    assert torch.equal(result, value)
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(round_ste(x), x.detach().round())


def test_scale_gradient_changes_the_gradient_alone():
    x = torch.tensor([0.1, -3.3], requires_grad=True)
    y = scale_gradient(x, 0.25)
    y.sum().backward()
    assert torch.equal(y, x)
    assert x.grad.tolist() == [0.25, 0.25]
