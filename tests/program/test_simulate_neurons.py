"""The kernel of integer neurons equals the int64 reference, and is used only if float64 is exact."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from spikefit.program.exact_format import float_suffices
from spikefit.program.ir import Arithmetic, Population, Program, Projection
from spikefit.program.simulate import Simulator
from spikefit.program.simulate_neurons import run_neurons, scan_neurons


def population(model, reset, generator, shape=(3, 4, 5), decay="scale", max_spikes=1):
    def drawn(low, high):
        return torch.randint(low, high, (shape[0],), generator=generator)

    leak = drawn(0, 4097) if model == "lif" and decay == "scale" else drawn(0, 9)
    threshold, bias = drawn(1, 60), drawn(-20, 21)
    unit = torch.ones(shape[0], dtype=torch.float64)
    return Population("l1", shape, model, threshold, bias, leak, reset, unit=unit, max_spikes=max_spikes)


@given(
    model=st.sampled_from(["if", "lif", "linear_leak_if"]),
    reset=st.sampled_from(["zero", "subtract"]),
    overflow=st.sampled_from(["saturate", "wrap"]),
    rounding=st.sampled_from(["floor", "toward_zero"]),
    decay=st.sampled_from(["scale", "shift"]),
    max_spikes=st.sampled_from([1, 1, 31]),
    bits=st.sampled_from([None, 6, 8, 24]),
    steps=st.integers(1, 6),
    constant=st.booleans(),
    flat=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 999),
)
@settings(max_examples=200)
def test_kernel_equals_int64(
    model, reset, overflow, rounding, decay, max_spikes, bits, steps, constant, flat, dtype, seed
):
    """Every spike, how often each neuron fired, and the overflows, also of narrow states that saturate or wrap."""
    generator = torch.Generator().manual_seed(seed)
    neurons = population(model, reset, generator, (7,) if flat else (3, 4, 5), decay, max_spikes)
    bounds = {} if bits is None else {"state_min": -(2 ** (bits - 1)), "state_max": 2 ** (bits - 1) - 1}
    arithmetic = Arithmetic(True, overflow=overflow, decay_rounding=rounding, decay=decay, **bounds)
    frames = 1 if constant else steps
    current = torch.randint(-90, 91, (frames, 2, *neurons.shape), generator=generator)
    spikes, counts, overflows = scan_neurons(neurons, current.to(dtype), arithmetic, steps)
    biased = (current + neurons.bias.view(-1, *[1] * (len(neurons.shape) - 1))).expand(steps, -1, *neurons.shape)
    expected, _, expected_overflows = run_neurons(neurons, biased, arithmetic, False)
    assert torch.equal(spikes, expected)
    assert torch.equal(counts, expected.sum(dim=(0, 1)).double())
    assert overflows == expected_overflows


@given(
    side=st.integers(2, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.integers(1, 5),
    constant=st.booleans(),
    overflow=st.sampled_from(["saturate", "wrap"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=100)
def test_windows_are_summed(side, height, width, channels, constant, overflow, seed):
    """Also where rows and columns remain, whose neurons fire and overflow like others, but send nothing."""
    assume(height >= side and width >= side)
    generator = torch.Generator().manual_seed(seed)
    neurons = population("lif", "zero", generator, (channels, height, width))
    arithmetic = Arithmetic(True, overflow=overflow, state_min=-60, state_max=60)
    current = torch.randint(-90, 91, (1 if constant else 3, 2, *neurons.shape), generator=generator)
    spikes, counts, overflows = scan_neurons(neurons, current.float(), arithmetic, 3, side)
    plain, plain_counts, plain_overflows = scan_neurons(neurons, current.float(), arithmetic, 3)
    expected = avg_pool2d(plain.flatten(0, 1), side, divisor_override=1).unflatten(0, (3, 2))
    assert torch.equal(spikes, expected)
    assert torch.equal(counts, plain_counts)
    assert overflows == plain_overflows


def program(weight, arithmetic, model="lif", steps=4):
    neurons = population(model, "zero", torch.Generator().manual_seed(0), (3,))
    source = Population("input", (2,), "input")
    projection = Projection("l1", "input", "l1", "dense", weight)
    return Program((source, neurons), (projection,), steps, "target", "test", arithmetic)


@pytest.mark.parametrize(("largest", "proved"), [(2**39 - 60, True), (2**40, False)])
def test_the_bound_counts_the_product_of_a_decay(largest, proved):
    """A membrane of almost 2**41 times a 12-bit decay is what float64 holds; a little more, and int64 computes it."""
    weight = torch.full((3, 2), largest // 2)
    found = program(weight, Arithmetic(True, state_min=-(2**40), state_max=2**40 - 1))
    assert float_suffices(found, found.populations[1]) == proved


def test_without_a_range_the_steps_bound_the_membrane():
    weight = torch.full((3, 2), 2**24)
    few, many = program(weight, Arithmetic(True), "if", 4), program(weight, Arithmetic(True), "if", 2**29)
    assert float_suffices(few, few.populations[1])
    assert not float_suffices(many, many.populations[1])
    exact = program(weight.double(), Arithmetic())
    assert not float_suffices(exact, exact.populations[1])


def test_recording_changes_nothing():
    """What is recorded runs in int64, what is not in the kernel."""
    found = program(torch.tensor([[5, -3], [40, 9], [-7, 30]]), Arithmetic(True, -100, 99))
    x = (torch.rand(4, 8, 2, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    plain, kernel = Simulator(found)(x, record=True), Simulator(found)(x)
    assert plain.activity == kernel.activity
    assert plain.activity[0].spikes > 0
    assert torch.equal(plain.logits, kernel.logits)
