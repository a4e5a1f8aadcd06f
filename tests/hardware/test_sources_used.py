"""The positions that a core's neurons read, compared with torch's gradient of the whole map."""

import pytest
import torch
from torch.nn.grad import conv2d_input

from spikefit.hardware.placement.base import Kernel, sources_used


@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("held", ["none", "one", "corners", "all"])
def test_it_is_where_the_gradient_of_the_map_is_not_zero(padding, stride, dilation, held):
    torch.manual_seed(0)
    live = (torch.rand(4, 3, 3, 2) < 0.3).float()
    source, options = (3, 9, 8), {"stride": stride, "padding": padding, "dilation": dilation}
    out = torch.nn.functional.conv2d(torch.zeros(1, *source), live, **options)[0]
    neurons = torch.zeros(out.shape, dtype=torch.bool)
    if held == "one":
        neurons[2, 1, 2 % out.shape[2]] = True
    elif held == "corners":
        neurons[0, 0, -1] = neurons[3, -1, 0] = True
    elif held == "all":
        neurons[:] = True
    kernel = Kernel(None, live, live, source, stride, padding, dilation)
    expected = conv2d_input((1, *source), live, neurons[None].float(), **options)[0] > 0
    assert torch.equal(sources_used(kernel, neurons), expected)
    if held in ("none", "all"):  # a corner may read the padding alone
        assert expected.any() == (held == "all")
