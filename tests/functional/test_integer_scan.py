"""Neurons in a chip's integers: reference and kernel compared with Python's integers, gradients with autograd."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.integer_neurons import LEAKS, drawn, dynamics, gradients, leak_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from spikefit.errors import ConfigurationError
from spikefit.functional.current_based import synaptic_filter
from spikefit.functional.integer_arithmetic import IntegerDynamics, bounded, charges, leaked, synaptic_scan
from spikefit.functional.integer_scan import integer_filter, integer_multi_step, plain_multi_step


def python_leak(state, leak, rule):
    """In Python's integers, which have no width and whose division and shift round down."""
    if rule.leak == "none":
        return state
    if rule.leak == "linear":
        return max(state - leak, 0) if state > 0 else min(state + leak, 0)
    if rule.decay == "shift":
        lost = state >> leak
        return state - (lost or (state > 0) - (state < 0))
    product = state * (2**rule.decay_bits - leak)
    if rule.decay_rounding == "floor" or product >= 0:
        return product // 2**rule.decay_bits
    return -(-product // 2**rule.decay_bits)


def python_bound(state, rule):
    if rule.state_min is None or rule.state_min <= state <= rule.state_max:
        return state
    if rule.overflow == "saturate":
        return rule.state_max if state > rule.state_max else rule.state_min
    while state > rule.state_max:
        state -= rule.state_max - rule.state_min + 1
    while state < rule.state_min:
        state += rule.state_max - rule.state_min + 1
    return state


def python_scan(currents, threshold, leak, rule):
    """Membranes, spikes, and whether the range was left, step by step."""
    state, found = 0, []
    for current in currents:
        charged = python_leak(state, leak, rule) + current
        state = membrane = python_bound(charged, rule)
        count, left = 0, membrane
        while left >= threshold and count < rule.max_spikes:
            count, left = count + 1, left - threshold
        if count:
            state = 0 if rule.reset == "zero" else left
        found.append((membrane, count, state, membrane != charged))
    return found


@given(
    rule=dynamics(most=(1, 2, 31)),
    values=st.lists(st.integers(-(2**30), 2**30) | st.integers(-90, 90), min_size=1, max_size=10),
    threshold=st.integers(1, 60) | st.integers(1, 2**29),
    share=st.floats(0, 1),
)
@settings(max_examples=300)
def test_the_reference_equals_python(rule, values, threshold, share):
    """In int64 and in float64, for every leak, bound and reset."""
    if rule.state_max is not None and rule.overflow == "wrap":
        values = [value % (8 * rule.state_max) for value in values]  # Python unwraps a turn at a time
    leak = leak_of(rule, share)
    expected = python_scan(values, threshold, leak, rule)
    for dtype in (torch.int64, torch.float64):
        currents = torch.tensor(values).to(dtype).view(-1, 1, 1)
        walk = charges(currents, torch.tensor([threshold]).to(dtype), torch.tensor([leak]).to(dtype), rule)
        found = [tuple(int(x) for x in step) for step in walk]
        assert found == [tuple(int(x) for x in step) for step in expected]


@given(state=st.integers(-(2**40), 2**40), shift=st.integers(0, 40))
def test_shifts_are_exact(state, shift):
    """Xylo's decay against Python's shift, for large states and small ones alike."""
    rule = LEAKS["shifted"]
    for value in (state, state % 7 - 3):
        for dtype in (torch.int64, torch.float64):
            found = leaked(torch.tensor([value]).to(dtype), torch.tensor([shift]).to(dtype), rule)
            assert int(found) == python_leak(value, shift, rule)


def test_without_rounding_a_decay_is_a_factor():
    rule = IntegerDynamics("decay", integer=False, state_min=-1, state_max=1)
    state = torch.tensor([0.3, -5.0], dtype=torch.float64)
    assert torch.equal(leaked(state, torch.tensor([0.7], dtype=torch.float64), rule), state * 0.7)
    within, outside = bounded(state, rule)
    assert within.tolist() == [0.3, -1.0]
    assert outside.tolist() == [False, True]


@given(
    rule=dynamics(),
    steps=st.integers(1, 5),
    constant=st.booleans(),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 5, 33]),
    sides=st.one_of(st.just(()), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    window=st.integers(1, 3),
    pruned=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=200)
def test_kernel_equals_the_reference(rule, steps, constant, batch, channels, sides, window, pruned, dtype, seed):
    """Spikes to the last bit, gradients within rounding, also where windows leave a remainder of rows and columns."""
    window = min(window, *sides) if sides else 1
    y, constants, alive = drawn(rule, 1 if constant else steps, batch, channels, sides, dtype, seed)
    args = (steps, rule, alive if pruned else None, window)
    spikes, found = gradients(integer_multi_step, y, constants, *args)
    expected, reference = gradients(plain_multi_step, y, constants, *args)
    assert spikes.dtype == torch.float32
    assert torch.equal(spikes, expected)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    for ours, theirs in zip(found, reference, strict=True):
        assert ours.dtype == theirs.dtype
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance * scale)
    if pruned and not alive.all():
        assert not spikes[:, :, ~alive].any()
        assert not any(gradient[~alive].any() for gradient in found[1:])
        assert not found[0][:, :, ~alive].any()


PRIMITIVES = {  # functions whose derivatives are the surrogates
    "atan": lambda x, alpha: torch.atan(math.pi / 2 * alpha * x) / math.pi,
    "sigmoid": lambda x, alpha: torch.sigmoid(alpha * x),
    "triangle": lambda x, alpha: (y := (alpha * x).clamp(-1, 1)) - y * y.abs() / 2,
}


def instead(real, value):
    """``value`` with the gradient of ``real``."""
    return real + (value - real).detach()


def autograd_scan(y, steps, bias, threshold, leak, slope, rule):
    """The network that is trained: real numbers, whose values are those of Python's integers."""
    shape = (-1, *[1] * (y.dim() - 3))
    bias, theta, loss, scale = (x.view(shape) for x in (bias, threshold, leak, slope))
    currents = y.double().expand(steps, *y.shape[1:]) + bias
    every = currents.detach().flatten(1).T.tolist()
    channel = torch.arange(y.shape[2]).view(shape).expand_as(y[0]).flatten().tolist()
    walks = [
        python_scan([int(x) for x in neuron], int(threshold[c]), int(leak[c]), rule)
        for neuron, c in zip(every, channel, strict=True)
    ]
    state, spikes = torch.zeros_like(currents[0]), []
    for step in range(steps):
        parts = zip(*(walk[step] for walk in walks), strict=True)
        membrane, count, left, _ = (torch.tensor(part, dtype=torch.float64).view_as(state) for part in parts)
        if rule.leak == "linear":
            real = torch.where(state.abs() > loss, state - state.sign() * loss, 0.0)
        elif rule.leak == "none":
            real = state
        else:
            real = state * (1 - (2.0**-loss if rule.decay == "shift" else loss / 2**rule.decay_bits))
        real = instead(real + currents[step], membrane)
        nearest = (membrane / theta.detach()).round().clamp(1, rule.max_spikes)
        soft = PRIMITIVES[rule.surrogate]((real - nearest * theta) * scale, rule.alpha)
        spikes.append(instead(soft, count))
        state = real * (count == 0) if rule.reset == "zero" else real - theta * count
        torch.testing.assert_close(state.detach(), left)
    return torch.stack(spikes)


@given(
    rule=dynamics(),
    steps=st.integers(1, 4),
    constant=st.booleans(),
    spatial=st.booleans(),
    kernel=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=100)
def test_gradients_are_straight_through(rule, steps, constant, spatial, kernel, seed):
    """Against autograd through real numbers that have the values of integers."""
    sides = (2, 3) if spatial else ()
    y, constants, _ = drawn(rule, 1 if constant else steps, 2, 3, sides, torch.float64, seed)
    spikes, found = gradients(integer_multi_step if kernel else plain_multi_step, y, constants, steps, rule)
    expected, reference = gradients(autograd_scan, y, constants, steps, rule)
    assert torch.equal(spikes.double(), expected.round())
    for ours, theirs in zip(found, reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * max(1.0, float(theirs.abs().max())))


def test_large_integers_stay_exact():
    """Membranes that float32 does not hold, driven by float32 currents."""
    rule = IntegerDynamics(max_spikes=1)
    y = torch.full((2, 1, 1), 2.0**24)
    one = torch.ones(1, dtype=torch.float64)
    spikes = integer_multi_step(y, 2, one, one * (2**25 + 2), one, one, rule)
    assert spikes.flatten().tolist() == [0, 1]
    assert integer_multi_step(y, 2, one, one * (2**25 + 3), one, one, rule).flatten().tolist() == [0, 0]


def test_windows_are_sums_and_lie_channels_last():
    y, constants, _ = drawn(LEAKS["truncated"], 1, 2, 4, (5, 7), torch.float32, 0)
    rule = replace(LEAKS["truncated"], max_spikes=3)
    every = integer_multi_step(y, 3, *constants, rule)
    sums = integer_multi_step(y, 3, *constants, rule, None, 2)
    assert torch.equal(sums, avg_pool2d(every.flatten(0, 1), 2, divisor_override=1).unflatten(0, (3, 2)))
    assert sums.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert sums.max() > 3


def test_results_do_not_depend_on_the_number_of_threads():
    rule = replace(LEAKS["truncated"], state_min=-100, state_max=99)
    y, constants, alive = drawn(rule, 3, 8, 16, (12, 12), torch.float32, 0)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(gradients(integer_multi_step, y, constants, 3, rule, alive, 2))
        finally:
            torch.set_num_threads(before)
    (spikes, one), (expected, two) = results
    assert torch.equal(spikes, expected)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_compiler_calls_the_kernel_as_it_is():
    rule = LEAKS["floored"]
    y, constants, _ = drawn(rule, 2, 3, 4, (), torch.float32, 0)
    compiled = torch.compile(lambda x: integer_multi_step(2 * x, 2, *constants, rule) + 1, backend="eager")
    assert torch.equal(compiled(y), integer_multi_step(2 * y, 2, *constants, rule) + 1)


@given(
    values=st.lists(st.integers(-(10**4), 10**4), min_size=1, max_size=8),
    rule=dynamics(leaks=("truncated", "floored", "shifted")),
    share=st.floats(0, 1),
)
@settings(max_examples=100)
def test_synaptic_currents_equal_python(values, rule, share):
    """The input is bounded, then decays, for every leak of the membrane; overflows are counted."""
    if rule.overflow == "wrap" and rule.state_max is not None:
        values = [value % (8 * rule.state_max) for value in values]
    leak, state, expected, overflows = leak_of(rule, share), 0, [], 0
    for value in values:
        gathered = python_bound(state + value, rule)
        overflows += gathered != state + value
        state = python_leak(gathered, leak, rule)
        expected.append(state)
    own = replace(rule, leak="none")
    for dtype in (torch.int64, torch.float64):
        delivered = torch.tensor(values).to(dtype).view(-1, 1, 1)
        currents, beyond = synaptic_scan(delivered, torch.tensor([leak]).to(dtype), own)
        assert [int(x) for x in currents] == expected
        assert int(beyond) == overflows
    filtered = integer_filter(delivered, 0.7, torch.tensor([leak]), own)
    assert torch.equal(filtered, currents)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_synaptic_currents_have_the_gradient_of_the_network(dtype):
    delivered = torch.randint(-90, 91, (4, 2, 3)).to(dtype).requires_grad_()
    decay = torch.tensor([0.5, 0.7, 0.9], dtype=dtype, requires_grad=True)
    leaves, weight = (delivered, decay), torch.randn(4, 2, 3, dtype=dtype)
    filtered = integer_filter(delivered, decay, torch.tensor([1, 2, 3]), LEAKS["shifted"])
    found = torch.autograd.grad((filtered * weight).sum(), leaves)
    expected = torch.autograd.grad((synaptic_filter(delivered, decay) * weight).sum(), leaves)
    assert filtered.dtype == dtype
    assert torch.equal(filtered, filtered.round())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("y.dtype", {"y": torch.zeros(2, 1, 1, dtype=torch.bfloat16)}),
        ("frames of y", {"y": torch.zeros(3, 1, 1)}),
        ("window", {"window": 2}),
        ("integer=False", {"dynamics": IntegerDynamics(integer=False)}),
    ],
)
def test_what_is_refused(message, changed):
    one = torch.ones(1, dtype=torch.float64)
    given = {"y": torch.zeros(2, 1, 1), "steps": 2, "bias": one, "threshold": one, "leak": one, "slope": one}
    with pytest.raises(ConfigurationError, match=message):
        integer_multi_step(**{**given, "dynamics": IntegerDynamics(), **changed})


@pytest.mark.parametrize("name", ["leak", "decay", "decay_rounding", "reset", "overflow", "surrogate"])
def test_an_unknown_choice_is_named(name):
    with pytest.raises(ConfigurationError, match=f"{name}: got 'other'"):
        IntegerDynamics(**{name: "other"})


def test_a_neuron_spikes_at_least_once():
    with pytest.raises(ConfigurationError, match="max_spikes: got 0"):
        IntegerDynamics(max_spikes=0)
