"""The scan compared with a plain loop that autograd differentiates."""

import pytest
import torch
from helpers.scan_reference import PSEUDO, assert_equals_reference, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.functional import lif
from spikefit.functional.dynamics import Dynamics
from spikefit.functional.lif import PlainScan

DRAWS = {
    "steps": st.integers(1, 7),
    "leak": st.sampled_from(["none", "decay", "linear"]),
    "amount": st.floats(0.01, 0.99),
    "threshold": st.floats(0.3, 2.0),
    "reset": st.sampled_from(["subtract", "zero"]),
    "surrogate": st.sampled_from(sorted(PSEUDO)),
    "alpha": st.floats(0.5, 4.0),
    "seed": st.integers(0, 10**6),
}


def multi_step(current, *, amount=0.0, **options):
    return lif.multi_step(current, Dynamics(**options), amount)


def plain_scan(current, *, amount, **options):
    return PlainScan.apply(current, torch.as_tensor(amount, dtype=current.dtype), Dynamics(**options))


@given(
    shape=st.sampled_from([(3,), (2, 3), (1, 2, 2, 3)]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    function=st.sampled_from([multi_step, plain_scan]),
    **DRAWS,
)
@settings(max_examples=300)
def test_forward_and_gradients_equal_the_loop(shape, dtype, function, steps, amount, seed, **options):
    """Float64 to 1e-10, float32 to 1e-5, of a kernel and of plain torch; no spike differs in either."""
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(steps, *shape, dtype=dtype, generator=generator) + 0.5
    weight = torch.randn(steps, *shape, dtype=dtype, generator=generator)
    assert_equals_reference(function, current, weight, amount, **options)


@given(order=st.permutations([1, 2, 3, 4]), steps=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_any_memory_format_is_taken_and_kept(order, steps, seed):
    stored = torch.randn(steps, 2, 3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    current = stored.permute(0, *order)
    spikes = multi_step(current, leak="decay", amount=0.5)
    assert torch.equal(spikes, reference(current, leak="decay", amount=0.5))
    assert [s for s, n in zip(spikes.stride(), spikes.shape, strict=True) if n > 1] == [
        s for s, n in zip(current.stride(), current.shape, strict=True) if n > 1
    ]
    cut = current[..., ::2]  # with gaps in memory
    assert torch.equal(multi_step(cut), reference(cut))


@given(
    leak=st.sampled_from([("none", 0.0), ("decay", 0.5), ("linear", 0.25)]),
    reset=st.sampled_from(["subtract", "zero"]),
    current=st.lists(st.integers(-4, 8), min_size=1, max_size=8),
)
@settings(max_examples=150)
def test_gradients_equal_the_loop_where_the_membrane_is_exactly_on_its_threshold(leak, reset, current):
    """Quarters, so that membranes land on the threshold, and on the border of the leak, to the last bit."""
    results = []
    for function in (multi_step, reference):
        i = (torch.tensor(current, dtype=torch.float64)[:, None] / 4).requires_grad_()
        a = torch.tensor(leak[1], dtype=torch.float64, requires_grad=True)
        if function is multi_step:
            spikes = multi_step(i, leak=leak[0], amount=a, reset=reset)
        else:
            spikes = reference(i, leak=leak[0], amount=a, reset=reset)
        (spikes * torch.arange(1.0, len(current) + 1)[:, None]).sum().backward()
        results.append((spikes.detach(), i.grad, torch.zeros_like(a) if a.grad is None else a.grad))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("leak", "amount", "reset", "expected"),
    [
        # Current 0.6 a step. v: 0.6, 1.2 (fires, keeps 0.2), 0.8, 1.4 (fires, keeps 0.4), 1.0
        ("none", 0.0, "subtract", [0, 1, 0, 1, 1]),
        # v: 0.6, 1.2 (fires, 0), 0.6, 1.2 (fires, 0), 0.6
        ("none", 0.0, "zero", [0, 1, 0, 1, 0]),
        # v: 0.6, 0.9, 1.05 (fires, 0.05), 0.625, 0.9125
        ("decay", 0.5, "subtract", [0, 0, 1, 0, 0]),
        # v: 0.6, 1.1 (fires, 0.1), 0.6 (0.1 - 0.1 + 0.6), 1.1 (fires), 0.6
        ("linear", 0.1, "subtract", [0, 1, 0, 1, 0]),
        # v: 0.6, 0.9, 1.05 (fires, 0), 0.6, 0.9
        ("decay", 0.5, "zero", [0, 0, 1, 0, 0]),
    ],
)
def test_spike_trains_by_hand(leak, amount, reset, expected):
    current = torch.full((5, 1), 0.6, dtype=torch.float64)
    current[-1] += 1e-9 if (leak, reset) == ("none", "subtract") else 0  # 0.4 + 0.6 in binary is a hair below 1
    assert multi_step(current, leak=leak, amount=amount, reset=reset).flatten().tolist() == expected


def test_a_linear_leak_moves_a_negative_membrane_up_and_stops_at_zero():
    """A leak of 0.5 (exact in binary). First column: -1, then -0.5 + 1.5 = 1 fires. Second: -0.25 ends at 0, not at
    0.25, so that 0.75 is too little and 1 is enough."""
    current = torch.tensor([[-1.0, -0.25, -0.25], [1.5, 0.75, 1.0]])
    assert multi_step(current, leak="linear", amount=0.5).tolist() == [[0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize(
    ("leak", "amount", "current"),
    [
        ("none", 0.0, [0.5, 0.5]),  # v = 0.5, 0.5 + 0.5
        ("decay", 0.5, [0.5, 0.75]),  # v = 0.5, 0.25 + 0.75
        ("linear", 0.25, [0.5, 0.75]),  # v = 0.5, 0.25 + 0.75
    ],
)
def test_a_membrane_on_its_threshold_fires_and_one_below_does_not(leak, amount, current, reset):
    below = [current[0], current[1] - 2**-10]
    spikes = multi_step(torch.tensor([current, below]).t(), leak=leak, amount=amount, reset=reset)
    assert spikes.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("leak", ["none", "decay", "linear"])
def test_a_constant_current_that_is_one_expanded_frame(leak):
    """A directly coded image reaches the neurons with a stride of 0 in time."""
    frame = torch.rand(1, 3, 4, dtype=torch.float64)
    results = []
    for spread in (lambda x: x.expand(5, -1, -1), lambda x: x.repeat(5, 1, 1)):
        x = frame.clone().requires_grad_()
        spikes = multi_step(spread(x), leak=leak, amount=0.3)
        (spikes * torch.arange(5.0).view(-1, 1, 1)).sum().backward()
        results.append((spikes.detach(), x.grad))
    for expanded, repeated in zip(*results, strict=True):
        torch.testing.assert_close(expanded, repeated)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    current = torch.rand(3, 4, dtype=dtype, requires_grad=True)
    spikes = multi_step(current, leak="decay", amount=0.5)
    spikes.sum().backward()
    assert spikes.dtype == current.grad.dtype == dtype


def test_an_unknown_surrogate_is_named():
    with pytest.raises(ConfigurationError, match="surrogate"):
        multi_step(torch.rand(2, 2), surrogate="step")
