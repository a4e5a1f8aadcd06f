"""Norm, scan and pooling as Triton kernels, on a GPU or in Triton's interpreter on a CPU."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("triton")

from helpers.kernel_tests import DEVICE, examples
from helpers.scan_reference import PSEUDO, composed

from spikefit.functional.dynamics import Dynamics, Norm
from spikefit.functional.kernels.cuda.norm_scan import multi_step_cuda, normed_multi_step_cuda
from spikefit.functional.lif import MAX_STEPS

EPS = 1e-5


@given(
    steps=st.integers(1, MAX_STEPS) if DEVICE == "cpu" else st.sampled_from([1, 3, 5, MAX_STEPS]),
    constant=st.booleans(),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 5, 33, 70]),
    sides=st.one_of(st.none(), st.tuples(st.integers(3, 9), st.integers(3, 9))),
    pool=st.integers(1, 3),
    statistics=st.sampled_from(["batch", "running", "no norm"]),
    leak=st.sampled_from(["none", "decay", "linear"]),
    amount=st.floats(0.0, 0.99),
    reset=st.sampled_from(["subtract", "zero"]),
    surrogate=st.sampled_from(sorted(PSEUDO)),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    gated=st.booleans(),
    seed=st.integers(0, 10**6),
)
@examples(30)
def test_forward_and_gradients_equal_the_parts(
    steps, constant, batch, channels, sides, pool, statistics, leak, amount, reset, surrogate, dtype, gated, seed
):
    generator = torch.Generator().manual_seed(seed)
    frames = 1 if constant else steps
    # A variance of next to nothing magnifies rounding beyond any tolerance.
    assume(statistics != "batch" or frames * batch * (1 if sides is None else sides[0] * sides[1]) >= 6)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).to(DEVICE)

    y = draw(frames, batch, channels, *(sides or ())) + 0.5
    gain, bias = draw(channels).abs() + 0.5, draw(channels) * 0.3 + 0.4
    mean, var = (None, None) if statistics == "batch" else (draw(channels), draw(channels).square() + 0.3)
    alive = (torch.rand(channels, generator=generator) < 0.8).to(DEVICE) if gated else None
    dynamics = Dynamics(0.9, leak, reset, surrogate, 2.0)
    pool = pool if sides else 1
    results = []
    for fused in (True, False):
        # The reference always counts in float64.
        leaves = [x.to(dtype if fused else torch.float64) for x in (y, gain, bias, torch.tensor(amount, device=DEVICE))]
        leaves = [x.detach().requires_grad_() for x in leaves]
        inputs, g, b, a = leaves
        used_mean, used_var = (None if x is None else x.to(inputs) for x in (mean, var))
        if statistics == "no norm":
            g = b = None
        if fused:
            norm = None if g is None else Norm(g, b, used_mean, used_var, EPS)
            out, used_mean, used_var = normed_multi_step_cuda(inputs, steps, dynamics, a, norm, alive, pool)
            if statistics == "batch":
                whole = y.double().transpose(0, 2).flatten(1)
                torch.testing.assert_close(used_mean.double(), whole.mean(1), rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(used_var.double(), whole.var(1, correction=0), rtol=1e-5, atol=1e-5)
        else:
            everyone = torch.ones(channels, dtype=torch.bool, device=DEVICE) if alive is None else alive
            out = composed(inputs, steps, dynamics, a, g, b, used_mean, used_var, everyone, pool, EPS)
        weight = torch.linspace(-1, 2, out.numel(), dtype=torch.float64, device=DEVICE).view_as(out).to(out.dtype)
        (out * weight).sum().backward()
        results.append([out.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)])
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    if dtype == torch.float32:  # a membrane that lies within rounding of its threshold may fire in one of the two
        assume(torch.equal(results[0][0].double().round(decimals=4), results[1][0].round(decimals=4)))
    for ours, expected in zip(*results, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=10 * tolerance * scale)


def test_a_small_variance_survives_a_large_mean():
    y = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE) + 1000
    norm = Norm(torch.ones(4, device=DEVICE), torch.zeros(4, device=DEVICE), None, None, EPS)
    _, mean, var = normed_multi_step_cuda(y, 2, Dynamics(), 0.0, norm, None, 1)
    whole = y.double().transpose(0, 2).flatten(1)
    torch.testing.assert_close(mean.double(), whole.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), whole.var(1, correction=0), rtol=1e-5, atol=0)


def test_the_output_lies_channels_last_and_keeps_its_dtype():
    y = torch.rand(2, 3, 4, 6, 6, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    spikes, mean, var = normed_multi_step_cuda(y, 2, Dynamics(), 0.0, None, None, 2)
    assert spikes.shape == (2, 3, 4, 3, 3)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert mean is var is None
    spikes.sum().backward()
    assert spikes.dtype == y.grad.dtype == torch.bfloat16


def test_a_gradient_is_the_same_every_time():
    y = torch.randn(3, 8, 16, 8, 8, device=DEVICE)
    results = []
    for _ in range(2):
        x = y.clone().requires_grad_()
        gain, bias = torch.ones(16, device=DEVICE, requires_grad=True), torch.zeros(16, device=DEVICE)
        amount = torch.tensor(0.5, device=DEVICE, requires_grad=True)
        norm = Norm(gain, bias, None, None, EPS)
        out, mean, var = normed_multi_step_cuda(x, 3, Dynamics(leak="decay"), amount, norm, None, 2)
        out.square().sum().backward()
        results.append([out.detach(), mean, var, x.grad, gain.grad, amount.grad])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("layout", ["last", "first", "one frame"])
def test_a_scan_without_norm_equals_the_loop(layout):
    from helpers.scan_reference import reference

    current = torch.randn(4, 3, 5, 6, 7, dtype=torch.float64, device=DEVICE) + 0.5
    if layout == "last":
        current = current.movedim(-1, 1).contiguous().movedim(1, -1)
    if layout == "one frame":
        current = current[:1].expand(4, -1, -1, -1, -1)
    results = []
    for function in (
        lambda x: multi_step_cuda(x, 0.7, Dynamics(leak="decay")),
        lambda x: reference(x, 1.0, "decay", torch.tensor(0.7, dtype=torch.float64), "subtract", "atan", 2.0),
    ):
        x = current.clone().requires_grad_() if layout != "one frame" else current[:1].clone().requires_grad_()
        spikes = function(x if len(x) == 4 else x.expand(4, -1, -1, -1, -1))
        (spikes * torch.linspace(-1, 2, spikes.numel(), device=DEVICE).view_as(spikes)).sum().backward()
        results.append((spikes.detach(), x.grad))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
