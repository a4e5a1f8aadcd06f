"""Fan-in and fan-out compared with an enumeration of all (input neuron, output neuron, tap)."""

from itertools import product

import pytest
import torch

from spikefit.functional import fan_out as synops


def visit(weight, source, stride, padding, dilation, groups):
    """All live synapses as (input index, output index), from the definition of a convolution."""
    _, height, width = source
    outputs, per_group, kh, kw = weight.shape
    rows = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    for o, i, j, c, u, v in product(*map(range, (outputs, rows, columns, per_group, kh, kw))):
        y, x = i * stride[0] - padding[0] + u * dilation[0], j * stride[1] - padding[1] + v * dilation[1]
        if 0 <= y < height and 0 <= x < width and weight[o, c, u, v] != 0:
            yield (o // (outputs // groups) * per_group + c, y, x), (o, i, j)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 2), (1, 1), (1, 1), 1),
        ((2, 1), (2, 0), (1, 2), 2),
        ((3, 2), (1, 2), (2, 1), 4),
    ],
)
def test_conv_fans(stride, padding, dilation, groups):
    source = (4, 6, 7)
    weight = torch.randint(-1, 2, (8, 4 // groups, 3, 2), generator=torch.Generator().manual_seed(groups)).float()
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    fan_out = synops.conv_fan_out(weight, source, **options)
    fan_in = synops.conv_fan_in(weight, source, **options)
    expected_out, expected_in = torch.zeros_like(fan_out), torch.zeros_like(fan_in)
    for source_neuron, target_neuron in visit(weight, source, stride, padding, dilation, groups):
        expected_out[source_neuron] += 1
        expected_in[target_neuron] += 1
    assert torch.equal(fan_out, expected_out)
    assert torch.equal(fan_in, expected_in)


@pytest.mark.parametrize("count", [synops.conv_fan_out, synops.conv_fan_in])
def test_the_defaults_are_those_of_a_convolution(count):
    weight = torch.ones(4, 2, 3, 2)
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    assert torch.equal(count(weight, (2, 6, 7)), count(weight, (2, 6, 7), **plain))


def test_dense_fans_by_hand():
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, -1.0]])
    assert synops.dense_fan_out(weight).tolist() == [1, 0, 2]
    assert synops.dense_fan_in(weight).tolist() == [2, 1]


def test_a_pooled_neuron_has_its_windows_fan_out_and_the_border_none():
    full = synops.unpool_fan_out(torch.tensor([[[5, 7]]]), (1, 3, 5), 2)
    assert full.tolist() == [[[5, 5, 7, 7, 0], [5, 5, 7, 7, 0], [0, 0, 0, 0, 0]]]


def test_synops_are_spikes_times_fan_out():
    spikes = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 1.0, 0.0]]])
    assert synops.count_synops(spikes, torch.tensor([3, 4, 5])).tolist() == [[13], [4]]
