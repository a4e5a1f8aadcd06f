"""Synop counts, integer arithmetic and overflow of the simulator, compared with brute force or hand-computed cases."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.input_kind import InputKind
from spikefit.program.exact_format import common_factor, exact_format
from spikefit.program.ir import Arithmetic, LayerActivity, Population, Program, Projection
from spikefit.program.simulate import Simulator, kernel_weight, merge_activity, propagate
from spikefit.program.simulate_neurons import run_neurons, synaptic_currents


def neurons(name, shape, **options):
    channels = shape[0]
    defaults = {
        "threshold": torch.full((channels,), 3, dtype=torch.int64),
        "bias": torch.zeros(channels, dtype=torch.int64),
        "leak": torch.zeros(channels, dtype=torch.int64),
        "unit": torch.ones(channels, dtype=torch.float64),
    }
    return Population(name, shape, options.pop("model", "if"), **{**defaults, **options})


def brute_force_synops(projection, source_spikes, source_shape, target_shape):
    """Visit every (source spike, live synapse) pair, straight from the definition of a convolution after pooling."""
    channels, height, width = source_shape
    outputs, rows, columns = target_shape
    total = 0
    per_group_in = channels // projection.groups
    per_group_out = outputs // projection.groups
    kernel_h, kernel_w = projection.weight.shape[2:]
    k = projection.pool
    for c, y, x in itertools.product(range(channels), range(height), range(width)):
        if y // k >= height // k or x // k >= width // k:
            continue  # no window covers it
        spikes = float(source_spikes[:, c, y, x].sum())
        if not spikes:
            continue
        for o, i, j, u, v in itertools.product(
            range(outputs), range(rows), range(columns), range(kernel_h), range(kernel_w)
        ):
            if o // per_group_out != c // per_group_in:
                continue
            if i * projection.stride[0] - projection.padding[0] + u * projection.dilation[0] != y // k:
                continue
            if j * projection.stride[1] - projection.padding[1] + v * projection.dilation[1] != x // k:
                continue
            if projection.weight[o, c % per_group_in, u, v] != 0:
                total += spikes
    return total


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "groups", "pool"),
    [
        (5, 3, 1, 1, 1, 1, 1),
        (5, 3, 2, 1, 1, 1, 1),
        (6, 3, 2, 0, 1, 2, 1),
        (6, 3, 1, 2, 2, 4, 1),
        (7, 2, 1, 1, 1, 1, 3),
        (8, 3, 2, 1, 1, 4, 2),
    ],
)
def test_synops_equal_every_spike_times_every_live_synapse(size, kernel, stride, padding, dilation, groups, pool):
    torch.manual_seed(size * kernel + groups)
    weight = torch.randint(-2, 3, (4, 4 // groups, kernel, kernel))
    pair = {"stride": (stride, stride), "padding": (padding, padding), "dilation": (dilation, dilation)}
    projection = Projection("conv", "input", "conv", "conv", weight, **pair, groups=groups, pool=pool)
    pooled = torch.zeros(1, 4, size // pool, size // pool)
    shape = tuple(F.conv2d(pooled, weight.float(), **projection.conv_options).shape[1:])
    program = Program(
        (Population("input", (4, size, size), "input"), neurons("conv", shape)),
        (projection,),
        3,
        "target",
        "test",
        Arithmetic(integer=True),
    )
    spikes = (torch.rand(3, 2, 4, size, size) < 0.3).float()
    simulation = Simulator(program)(spikes)
    expected = sum(brute_force_synops(projection, spikes[:, n], (4, size, size), shape) for n in range(2))
    assert simulation.activity[0].synops * 2 == expected
    assert simulation.activity[0].synapses == brute_force_synops(
        projection, torch.ones(1, 4, size, size), (4, size, size), shape
    )


def test_synops_of_a_dense_layer_by_hand():
    """Inputs 0 and 2 fire; they have 2 and 1 live synapses: 3 synops in step 0. Input 1 (1 synapse) fires in step 1."""
    weight = torch.tensor([[1, 0, 5], [2, -1, 0]])
    program = Program(
        (Population("input", (3,), "input"), neurons("out", (2,))),
        (Projection("out", "input", "out", "dense", weight),),
        2,
        "target",
        "test",
        Arithmetic(integer=True),
    )
    x = torch.tensor([[[1.0, 0, 1]], [[0, 1, 0]]])
    simulation = Simulator(program)(x, record=True)
    assert simulation.activity[0].synops == 4
    assert simulation.activity[0].updates == 4
    assert simulation.membranes["out"][:, 0].tolist() == [[6, 2], [3, 1]]  # 6 fires and keeps 6 - 3
    assert simulation.spikes["out"][:, 0].tolist() == [[1, 0], [1, 0]]


def test_a_constant_image_is_computed_and_counted_once():
    weight = torch.tensor([[2, 0, -1]])
    program = Program(
        (Population("input", (3,), "input", input_kind=InputKind.CONSTANT), neurons("out", (1,))),
        (Projection("out", "input", "out", "dense", weight),),
        4,
        "target",
        "test",
        Arithmetic(integer=True, input_scale=0.5, input_max=3),
    )
    image = torch.tensor([[1.0, 1.0, 9.0]])  # 2, 2 and, clipped, 3 units
    constant = Simulator(program)(image.expand(4, 1, 3), record=True)
    materialised = Simulator(program)(image.repeat(4, 1, 1), record=True)
    changing = replace(program.populations[0], input_kind=InputKind.GRADED)
    every_step = Simulator(replace(program, populations=(changing, program.populations[1])))(image.repeat(4, 1, 1))
    assert constant.activity[0].macs == materialised.activity[0].macs == 2, "what is declared counts, not the memory"
    assert every_step.activity[0].macs == 8
    assert constant.activity[0].synops == 0
    assert torch.equal(constant.membranes["out"], materialised.membranes["out"])
    assert constant.membranes["out"].flatten().tolist() == [1, 2, 3, 1]


@given(
    values=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=12),
    decay=st.integers(0, 4096),
    threshold=st.integers(1, 10**5),
    reset=st.sampled_from(["subtract", "zero"]),
    model=st.sampled_from(["if", "lif", "linear_leak_if"]),
    rounding=st.sampled_from(["toward_zero", "floor"]),
    overflow=st.sampled_from(["saturate", "wrap"]),
)
@settings(max_examples=200)
def test_integer_neurons_equal_plain_python(values, decay, threshold, reset, model, rounding, overflow):
    """Python's integers are the reference: unbounded, floor division, no tensors."""
    low, high = -(2**15), 2**15 - 1
    arithmetic = Arithmetic(True, low, high, overflow, 12, rounding)
    leak = torch.tensor([decay])
    population = neurons("n", (1,), model=model, reset=reset, threshold=torch.tensor([threshold]), leak=leak)
    spikes, membranes, overflows = run_neurons(population, torch.tensor(values).view(-1, 1, 1), arithmetic, True)
    state, expected_overflows = 0, 0
    for step, value in enumerate(values):
        if model == "lif":
            product = state * (4096 - decay)
            kept = product // 4096 if rounding == "floor" else (abs(product) // 4096) * (1 if product >= 0 else -1)
        elif model == "linear_leak_if":
            kept = state - (1 if state > 0 else -1) * min(abs(state), decay) if state else 0
        else:
            kept = state
        membrane = kept + value
        if not low <= membrane <= high:
            expected_overflows += 1
            membrane = min(max(membrane, low), high) if overflow == "saturate" else (membrane - low) % 2**16 + low
        fired = membrane >= threshold
        state = (membrane - threshold if reset == "subtract" else 0) if fired else membrane
        assert int(membranes[step]) == membrane
        assert bool(spikes[step]) == fired
    assert overflows == expected_overflows


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_large_integers_stay_exact(kind, groups):
    """Sums beyond 2**53 would be rounded by any float kernel; the int64 path is compared with Python's integers."""
    big = 2**52 + 1
    if kind == "dense":
        projection = Projection("p", "input", "out", "dense", torch.tensor([[big, big, 1]]))
        assert propagate(projection, torch.ones(1, 3), projection.weight).item() == 2 * big + 1
        return
    weight = torch.full((2, 2 // groups, 3, 3), big)
    weight[1] += 1
    projection = Projection("p", "input", "out", "conv", weight, (2, 1), (1, 0), groups=groups)
    signal = torch.ones(1, 2, 4, 5)
    taps = F.conv2d(signal, torch.ones(2, 2 // groups, 3, 3), **projection.conv_options).to(torch.int64)
    expected = taps * torch.tensor([big, big + 1]).view(1, 2, 1, 1)
    assert torch.equal(propagate(projection, signal.double(), projection.weight), expected)


def test_kernel_format_follows_the_bound():
    def format_of(value):
        program = Program(
            (Population("input", (2,), "input"), neurons("out", (1,))),
            (Projection("out", "input", "out", "dense", torch.tensor([[value, -1]])),),
            1,
            "target",
            "test",
            Arithmetic(integer=True),
        )
        return Simulator(program)._weights["out"].dtype

    assert format_of(2**24 - 2) == torch.float32
    assert format_of(2**24 - 1) == torch.float64
    assert format_of(2**53 - 1) == torch.int64


@given(
    factor=st.integers(0, 20),
    rows=st.lists(st.lists(st.integers(-(2**20), 2**20), min_size=15, max_size=15), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_multiples_of_a_power_of_two_need_fewer_bits(factor, rows, seed):
    """float32 holds sums of 15 multiples of 2**factor below 2**(24 + factor): every sum, against int64."""
    weight = torch.tensor(rows) * 2**factor
    projection = Projection("p", "input", "out", "dense", weight)
    assert common_factor(weight) % 2**factor == 0 or not weight.any()
    assert not (weight % common_factor(weight)).any()
    program = Program(
        (Population("input", (15,), "input"), neurons("out", (len(rows),))),
        (projection,),
        1,
        "target",
        "test",
        Arithmetic(integer=True),
    )
    dtype = exact_format(program, projection)
    signal = (torch.rand(8, 15, generator=torch.Generator().manual_seed(seed)) < 0.7).to(torch.int64)
    assert torch.equal(
        propagate(projection, signal.to(dtype), kernel_weight(projection, dtype)).to(torch.int64), signal @ weight.T
    )
    assert dtype == torch.float32


def test_max_pool_is_the_or_of_spikes():
    """Four spikes in one window are one event after pooling."""
    weight = torch.ones(1, 1, 1, 1, dtype=torch.int64)
    program = Program(
        (Population("input", (1, 2, 2), "input"), neurons("out", (1, 1, 1))),
        (Projection("out", "input", "out", "conv", weight, pool=2, pool_kind="max"),),
        1,
        "target",
        "test",
        Arithmetic(integer=True),
    )
    simulation = Simulator(program)(torch.ones(1, 1, 1, 2, 2), record=True)
    assert simulation.membranes["out"].item() == 1
    assert simulation.activity[0].synops == 1


def test_activity_is_averaged_over_samples():
    one = LayerActivity("a", 1, 2, 3.0, 4.0, 5.0, 6.0)
    two = LayerActivity("a", 1, 2, 6.0, 8.0, 5.0, 6.0)
    (merged,) = merge_activity([((one,), 2), ((two,), 1)])
    assert (merged.spikes, merged.synops, merged.macs) == (4.0, pytest.approx(16 / 3), 5.0)


@given(
    values=st.lists(st.integers(-(10**4), 10**4), min_size=1, max_size=12),
    shifts=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    threshold=st.integers(1, 10**4),
    most=st.integers(2, 31),
)
@settings(max_examples=200)
def test_current_based_neurons_equal_plain_python(values, shifts, threshold, most):
    """Xylo's neuron in Python's integers: shifts are floor divisions, and at least one unit goes."""

    def decayed(state, shift):
        lost = state // 2**shift
        return state - (lost or (state > 0) - (state < 0))

    low, high = -(2**15), 2**15 - 1
    arithmetic = Arithmetic(True, low, high, "saturate", decay="shift")
    population = replace(
        neurons("n", (1,), model="cuba_lif", threshold=torch.tensor([threshold]), leak=torch.tensor([shifts[0]])),
        synaptic_leak=torch.tensor([shifts[1]]),
        max_spikes=most,
    )
    delivered = torch.tensor(values).view(-1, 1, 1)
    current, beyond = synaptic_currents(population, delivered, arithmetic)
    spikes, membranes, overflows = run_neurons(population, current, arithmetic, True)
    synaptic = state = outside = 0
    for step, value in enumerate(values):
        gathered = min(max(synaptic + value, low), high)
        outside += gathered != synaptic + value
        synaptic = decayed(gathered, shifts[1])
        charged = decayed(state, shifts[0]) + synaptic
        membrane = min(max(charged, low), high)
        outside += membrane != charged
        count, state = 0, membrane
        while state >= threshold and count < most:
            count, state = count + 1, state - threshold
        assert (int(membranes[step]), int(spikes[step])) == (membrane, count)
    assert overflows + beyond == outside
