"""Triton kernels of a chip's neurons compared with plain torch, on a GPU or in Triton's interpreter on a CPU."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from helpers.integer_neurons import LEAKS, drawn, dynamics, gradients
from helpers.kernel_tests import DEVICE, examples

from spikefit.functional.integer_arithmetic import IntegerDynamics
from spikefit.functional.integer_scan import integer_multi_step, plain_multi_step
from spikefit.functional.kernels.cuda.integer_scan import integer_multi_step_cuda


def compared(rule, y, constants, alive, steps, window):
    """Spikes of the kernel, after they and their gradients were compared with those of plain torch."""
    constants = [constant.to(DEVICE) for constant in constants]
    args = (steps, rule, None if alive is None else alive.to(DEVICE), window)
    spikes, found = gradients(integer_multi_step_cuda, y.to(DEVICE), constants, *args)
    expected, reference = gradients(plain_multi_step, y.to(DEVICE), constants, *args)
    assert torch.equal(spikes, expected)
    assert spikes.dtype == torch.float32
    tolerance = 1e-5 if y.dtype == torch.float32 else 1e-11
    for ours, theirs in zip(found, reference, strict=True):
        assert ours.dtype == theirs.dtype
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance * scale)
    return spikes.cpu(), [of.cpu() for of in found]


@given(
    rule=dynamics(),
    steps=st.integers(1, 4),
    constant=st.booleans(),
    channels=st.sampled_from([1, 5, 70]),
    sides=st.one_of(st.just(()), st.tuples(st.integers(1, 7), st.integers(1, 7))),
    window=st.integers(1, 3),
    pruned=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
@examples(40, compiled=12)
def test_kernels_equal_plain_torch(rule, steps, constant, channels, sides, window, pruned, dtype, seed):
    """Spikes to the last bit, gradients within rounding, also where windows leave a remainder of rows and columns."""
    window = min(window, *sides) if sides else 1
    y, constants, alive = drawn(rule, 1 if constant else steps, 2, channels, sides, dtype, seed)
    spikes, found = compared(rule, y, constants, alive if pruned else None, steps, window)
    if pruned and not alive.all():
        assert not spikes[:, :, ~alive].any()
        assert not any(gradient[~alive].any() for gradient in found[1:])


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_program_sums_over_several_blocks_of_places(monkeypatch, most, dtype):
    """The gradients of the constants, where there are more places than programs; a share of channels is left over."""
    monkeypatch.setattr("spikefit.functional.kernels.cuda.integer_scan._PROGRAMS", 4)
    rule = replace(LEAKS["truncated"], state_min=-100, state_max=99, max_spikes=most)
    y, constants, alive = drawn(rule, 2, 2, 67, (7, 6), dtype, 0)
    compared(rule, y, constants, alive, 2, 2)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("largest", [2**24 + 1, 2**31 - 1, 2**40 + 5])
def test_ranges_that_float32_does_not_hold(largest, overflow):
    """A membrane one below, at and one above the largest state, and the same at the least."""
    rule = IntegerDynamics(state_min=-largest - 2, state_max=largest, overflow=overflow)
    edges = torch.tensor([largest - 1, largest, largest + 1, -largest - 2, -largest - 3], dtype=torch.float64)
    y = torch.stack([edges, torch.zeros(5, dtype=torch.float64), -edges]).view(3, 1, 5)
    one = torch.ones(5, dtype=torch.float64)
    for threshold in (largest, largest - 1, 1):
        compared(rule, y, (0 * one, threshold * one, 0 * one, 1e-9 * one), None, 3, 1)


def test_currents_that_lie_channels_first_and_an_empty_batch():
    rule = LEAKS["linear"]
    y, constants, alive = drawn(rule, 2, 3, 4, (5, 4), torch.float32, 0)
    compared(rule, y.movedim(2, -1).contiguous().movedim(-1, 2), constants, alive, 2, 2)
    y, alive, *constants = (x.to(DEVICE) for x in (y[:, :0], alive, *constants))
    spikes, found = gradients(integer_multi_step_cuda, y, constants, 2, rule, alive, 2)
    assert spikes.shape == (2, 0, 4, 2, 2)
    assert not any(of.any() for of in found)


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU: which kernel is taken depends on it")
def test_a_gpu_takes_the_kernels(monkeypatch):
    monkeypatch.setattr("spikefit.functional.integer_scan.plain_multi_step", None)
    y, constants, alive = (x for x in drawn(LEAKS["none"], 2, 3, 4, (), torch.float32, 0))
    spikes = integer_multi_step(y.cuda(), 2, *(x.cuda() for x in constants), LEAKS["none"], alive.cuda())
    assert torch.equal(spikes.cpu(), plain_multi_step(y, 2, *constants, LEAKS["none"], alive))
