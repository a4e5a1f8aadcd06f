"""Shapes of convolutions against torch's own."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from spikefit.functional.convolution import output_size, ungrouped

pairs = st.tuples


@settings(max_examples=60)
@given(
    size=pairs(st.integers(1, 20), st.integers(1, 20)),
    kernel=pairs(st.integers(1, 4), st.integers(1, 4)),
    stride=pairs(st.integers(1, 3), st.integers(1, 3)),
    padding=pairs(st.integers(0, 2), st.integers(0, 2)),
    dilation=pairs(st.integers(1, 2), st.integers(1, 2)),
)
def test_the_output_has_the_size_that_torch_gives_it(size, kernel, stride, padding, dilation):
    found = output_size(size, kernel, stride, padding, dilation)
    assume(min(found) >= 1)
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    assert found == tuple(layer(torch.empty(1, 1, *size, device="meta")).shape[2:])


def test_a_convolution_without_groups_gives_the_same():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 5, 5), torch.randn(4, 3, 3, 3)
    expected = nn.functional.conv2d(x, weight, groups=2)
    torch.testing.assert_close(nn.functional.conv2d(x, ungrouped(weight, 2)), expected)
