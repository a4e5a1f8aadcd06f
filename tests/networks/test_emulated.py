"""The dtype in which a layer adds integers exactly."""

import pytest
import torch
import torch.nn.functional as F

from spikefit.networks.emulated import exact_dtype
from spikefit.networks.memory_format import channels_last


@pytest.mark.parametrize(
    ("inputs", "largest", "arriving", "device", "expected"),
    [
        (9, 128, 1, "cpu", torch.float32),
        (2**17 - 1, 128, 1, "cuda", torch.float32),
        (2**17, 128, 1, "cpu", torch.float64),
        (2**17, 128, 1, "cuda", torch.float64),
        (9, 128, 2**11, "cuda", torch.float32),
        (9, 128, 2**11 + 1, "cpu", torch.float32),
        (9, 128, 2**11 + 1, "cuda", torch.float64),
        (9, 2**11 + 1, 1, "cuda", torch.float64),
    ],
)
def test_the_format_follows_from_the_ranges(inputs, largest, arriving, device, expected):
    assert exact_dtype(inputs, largest, arriving, device) is expected


def tf32(x):
    """``x`` rounded to the 11 significant bits that TF32 has."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2**11).round(), exponent - 11)


def test_integers_that_tf32_holds_are_those_that_are_let_through():
    every = torch.arange(2**11 + 1, dtype=torch.float64)
    assert torch.equal(tf32(every), every)
    assert tf32(torch.tensor(2.0**11 + 1)) != 2**11 + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: how it multiplies can't be seen")
@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_gpu_adds_integers_exactly(monkeypatch, kernel, allowed):
    """With TF32 and without, sums that come close to 2**24."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", allowed)
    generator = torch.Generator().manual_seed(0)
    arriving = (2**24 - 1) // (64 * kernel**2 * 128)
    assert exact_dtype(64 * kernel**2, 128, arriving, "cuda") is torch.float32
    x = torch.randint(arriving // 2, arriving + 1, (32, 64, 16, 16), generator=generator).double().cuda()
    weight = torch.randint(100, 129, (96, 64, kernel, kernel), generator=generator).double().cuda()
    found = F.conv2d(channels_last(x.float()), weight.float(), padding=kernel // 2)
    assert torch.equal(found.double(), F.conv2d(x, weight, padding=kernel // 2).round())  # whatever float64 rounds
    flat, rows = x.flatten(1)[:, : 64 * kernel**2], weight.flatten(1)
    assert torch.equal(F.linear(flat.float(), rows.float()).double(), F.linear(flat, rows).round())
