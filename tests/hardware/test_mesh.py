"""Positions of cores and hops of spikes, compared with brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hardware.conftest import dense_matrix, make_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.hardware.placement import place
from spikefit.hardware.placement.mesh import hilbert_order, messages_between, on_mesh
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 13])
def test_the_curve_visits_every_place_once_and_goes_step_by_step(side):
    order = hilbert_order(side)
    assert sorted(map(tuple, order.tolist())) == [(y, x) for y in range(side) for x in range(side)]
    if side & (side - 1) == 0:
        assert (np.abs(np.diff(order, axis=0)).sum(axis=1) == 1).all()


def small_cores(neurons, cores=9):
    target = HardwareTarget.load("generic")
    limits = replace(target.limits, neurons_per_core=SourcedValue(neurons), cores=SourcedValue(cores))
    return replace(target, limits=limits)


def counted(program, cores):
    """Messages between cores, from the dense matrices."""
    where = {(part.population, int(n)): k for k, core in enumerate(cores) for part in core.parts for n in part.neurons}
    found = np.zeros((len(cores), len(cores)), dtype=int)
    for projection in program.projections:
        matrix = dense_matrix(program, projection)
        for source in range(matrix.shape[1]):
            start = where.get((projection.source, source))
            if start is not None:
                for end in {where[projection.target, int(n)] for n in matrix[:, source].nonzero().flatten()}:
                    found[start, end] += 1
    return found


@st.composite
def programs(draw):
    """Convolutions with strides, padding and pooling, and a dense layer, with missing synapses."""
    torch.manual_seed(draw(st.integers(0, 99)))
    side, stride = draw(st.integers(4, 7)), draw(st.sampled_from([1, 2]))

    def weight(*shape):
        return torch.randint(-1, 2, shape)

    first = (weight(3, 2, 3, 3), {"padding": (1, 1)}, {})
    pool = draw(st.sampled_from([1, 2]))
    second = (weight(4, 3, 2, 2), {"stride": (stride, stride), "pool": pool}, {})
    inputs = 4 * ((side // pool - 2) // stride + 1) ** 2
    return make_chain((2, side, side), first, second, (weight(5, inputs), {}, {}), (weight(3, 5), {}, {}))


@given(program=programs(), neurons=st.integers(5, 60), family=st.sampled_from(["memory", "crossbar"]))
@settings(max_examples=40)
def test_messages_and_hops_against_brute_force(program, neurons, family):
    if family == "memory":
        target = small_cores(neurons, cores=400)
    else:
        target = HardwareTarget.load("altai1")
        limits = replace(target.limits, neurons_per_core=SourcedValue(neurons), cores=SourcedValue(400))
        target = replace(target, limits=limits)
    placement = place(target, program)
    messages = counted(program, placement.cores)
    assert (messages_between(target, program, list(placement.cores)).toarray() == messages).all()
    places = placement.positions
    assert len({tuple(place) for place in places.tolist()}) == len(placement.cores)
    assert places.min() >= 0
    assert places.max() < 20
    distance = np.abs(places[:, None] - places[None]).sum(axis=2)
    firing = sum(population.neurons for population in program.populations if population.spiking)
    assert placement.hops_per_spike == pytest.approx((messages * distance).sum() / firing)
    mesh = on_mesh(target, program, list(placement.cores))
    assert mesh.hops_per_spike <= mesh.hops_along_curve
    again = place(target, program)
    assert (again.positions == places).all()


def test_neighbours_are_found():
    """A chain of layers of one core each: every message can take a single hop."""
    ones = torch.ones(6, 6, dtype=torch.int64)
    program = make_chain((6,), *[(ones, {}, {}) for _ in range(8)])
    placement = place(small_cores(6), program)
    assert len(placement.cores) == 8
    assert placement.hops_per_spike == pytest.approx(7 * 6 / 48)


def test_no_mesh_without_one():
    ones = torch.ones(6, 6, dtype=torch.int64)
    placement = place(HardwareTarget.load("speck2f"), make_chain((6,), (ones, {}, {})))
    assert placement.hops_per_spike is None
    assert placement.positions is None
    assert place(small_cores(6), make_chain((6,), (ones, {}, {})), hops=False).hops_per_spike is None
