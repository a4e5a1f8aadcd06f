"""Norm, scan and pooling in one operation, compared with torch's batch norm, a plain loop and torch's pooling."""

import subprocess
import sys

import pytest
import torch
from helpers.scan_reference import PSEUDO, composed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from spikefit.functional.dynamics import Dynamics, Norm
from spikefit.functional.kernels.cpu.jit import jit
from spikefit.functional.lif import normed_multi_step
from spikefit.functional.surrogate import KERNEL_KINDS, SURROGATES

EPS = 1e-5


@given(
    steps=st.integers(1, 6),
    constant=st.booleans(),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 5, 33]),
    sides=st.one_of(st.none(), st.tuples(st.integers(3, 9), st.integers(3, 9))),
    pool=st.integers(1, 3),
    statistics=st.sampled_from(["batch", "running", "no norm"]),
    leak=st.sampled_from(["none", "decay", "linear"]),
    amount=st.floats(0.0, 0.99),
    reset=st.sampled_from(["subtract", "zero"]),
    surrogate=st.sampled_from(sorted(PSEUDO)),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 10**6),
)
@example(  # more channels than a work item has values
    steps=2,
    constant=False,
    batch=3,
    channels=4100,
    sides=None,
    pool=1,
    statistics="batch",
    leak="decay",
    amount=0.5,
    reset="subtract",
    surrogate="atan",
    dtype=torch.float64,
    seed=0,
)
@settings(max_examples=400)
def test_forward_and_gradients_equal_the_parts(
    steps, constant, batch, channels, sides, pool, statistics, leak, amount, reset, surrogate, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    frames = 1 if constant else steps
    # A variance of next to nothing magnifies rounding beyond any tolerance.
    assume(statistics != "batch" or frames * batch * (1 if sides is None else sides[0] * sides[1]) >= 6)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    y = draw(frames, batch, channels, *(sides or ())) + 0.5
    gain, bias = draw(channels).abs() + 0.5, draw(channels) * 0.3 + 0.4
    mean, var = (None, None) if statistics == "batch" else (draw(channels), draw(channels).square() + 0.3)
    alive = torch.rand(channels, generator=generator) < 0.8
    dynamics = Dynamics(0.9, leak, reset, surrogate, 2.0)
    pool = pool if sides else 1
    results = []
    for fused in (True, False):
        # The reference always counts in float64.
        leaves = [x.to(dtype if fused else torch.float64) for x in (y, gain, bias, torch.tensor(amount))]
        leaves = [x.detach().requires_grad_() for x in leaves]
        inputs, g, b, a = leaves
        used_mean, used_var = (None if x is None else x.to(inputs) for x in (mean, var))
        if statistics == "no norm":
            g = b = None
        if fused:
            norm = None if g is None else Norm(g, b, used_mean, used_var, EPS)
            out, used_mean, used_var = normed_multi_step(inputs, steps, dynamics, a, norm, alive, pool)
            if statistics == "batch":
                whole = y.double().transpose(0, 2).flatten(1)
                torch.testing.assert_close(used_mean, whole.mean(1), rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(used_var, whole.var(1, correction=0), rtol=1e-6, atol=1e-6)
        else:
            out = composed(inputs, steps, dynamics, a, g, b, used_mean, used_var, alive, pool, EPS)
        weight = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view_as(out).to(out.dtype)
        (out * weight).sum().backward()
        results.append([out.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)])
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    if dtype == torch.float32:  # a membrane that lies within rounding of its threshold may fire in one of the two
        assume(torch.equal(results[0][0].double().round(decimals=4), results[1][0].round(decimals=4)))
    for ours, expected in zip(*results, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=10 * tolerance * scale)


def test_the_output_lies_channels_last():
    spikes, mean, var = normed_multi_step(torch.rand(2, 3, 4, 6, 6), 2, Dynamics(), pool=2)
    assert spikes.shape == (2, 3, 4, 3, 3)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert mean is var is None


def test_results_do_not_depend_on_the_number_of_threads():
    y = torch.randn(3, 8, 16, 12, 12)
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            x = y.clone().requires_grad_()
            gain, bias = torch.ones(16, requires_grad=True), torch.zeros(16, requires_grad=True)
            norm = Norm(gain, bias, None, None, EPS)
            out, mean, var = normed_multi_step(x, 3, Dynamics(leak="decay"), 0.5, norm, pool=2)
            out.square().sum().backward()
            results.append([out.detach(), mean, var, x.grad, gain.grad, bias.grad])
        finally:
            torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_kernel_leaves_torchs_threads_alone(threads):
    """In a separate process, because numba starts its threads only once."""
    code = (
        "import torch; from spikefit.functional.dynamics import Dynamics; "
        "from spikefit.functional.lif import multi_step; "
        f"torch.set_num_threads({threads}); multi_step(torch.rand(2, 4), Dynamics()); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == str(threads)


def test_a_kernel_without_a_source_file_still_compiles():
    namespace = {}
    exec("def double(x): return 2 * x", namespace)
    assert jit(namespace["double"])(21) == 42


def test_half_precision_is_computed_in_float32():
    y = torch.randn(3, 2, 4, 6, 6).bfloat16()
    out, _, _ = normed_multi_step(y, 3, Dynamics(leak="decay"), 0.3, pool=2)
    assert out.dtype == torch.bfloat16
    expected, _, _ = normed_multi_step(y.float(), 3, Dynamics(leak="decay"), 0.3, pool=2)
    assert torch.equal(out, expected.bfloat16())


def test_every_surrogate_has_a_kernel():
    assert set(KERNEL_KINDS) == set(SURROGATES)
