"""Triton kernels of the scan compared with a plain loop, on a GPU or in Triton's interpreter on a CPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from helpers.kernel_tests import DEVICE, examples
from helpers.scan_reference import PSEUDO, assert_equals_reference

from spikefit.functional.dynamics import Dynamics
from spikefit.functional.kernels.cuda.long_scan import TritonScan


def scan(current, amount, **options):
    return TritonScan.apply(current, amount, Dynamics(**options))


@given(
    steps=st.integers(1, 5),
    shape=st.sampled_from([(3,), (2, 700), (2, 3, 4, 5)]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    leak=st.sampled_from(["none", "decay", "linear"]),
    amount=st.floats(0.01, 0.99),
    threshold=st.floats(0.3, 2.0),
    reset=st.sampled_from(["subtract", "zero"]),
    surrogate=st.sampled_from(sorted(PSEUDO)),
    alpha=st.floats(0.5, 4.0),
    channels_last=st.booleans(),
    seed=st.integers(0, 10**6),
)
@examples(60, compiled=12)
def test_forward_and_gradients_equal_the_loop(steps, shape, dtype, amount, channels_last, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(steps, *shape, dtype=dtype, generator=generator).to(DEVICE) + 0.5
    if channels_last:
        current = current.movedim(-1, 1).contiguous().movedim(1, -1)
    weight = torch.randn(steps, *shape, dtype=dtype, generator=generator).to(DEVICE)
    assert_equals_reference(scan, current, weight, amount, **options)


@pytest.mark.parametrize("leak", ["none", "decay", "linear"])
def test_a_constant_current_is_read_from_one_frame(leak):
    frame = torch.rand(1, 3, 4, dtype=torch.float64, device=DEVICE)
    results = []
    for spread in (lambda x: x.expand(5, -1, -1), lambda x: x.repeat(5, 1, 1)):
        x = frame.clone().requires_grad_()
        spikes = scan(spread(x), torch.tensor(0.3, dtype=torch.float64, device=DEVICE), leak=leak)
        (spikes * torch.arange(5.0, device=DEVICE).view(-1, 1, 1)).sum().backward()
        results.append((spikes.detach(), x.grad))
    for expanded, repeated in zip(*results, strict=True):
        torch.testing.assert_close(expanded, repeated)


def test_bfloat16_is_computed_in_float32():
    """2**-9 added to 1 is lost in bfloat16 and kept in float32."""
    current = torch.tensor([[1.0], [2**-9]], dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    amount = torch.tensor(0.0, device=DEVICE)
    spikes = scan(current, amount, threshold=1 + 2**-10)
    spikes.sum().backward()
    assert spikes.flatten().tolist() == [0, 1]
    assert spikes.dtype == current.grad.dtype == torch.bfloat16
