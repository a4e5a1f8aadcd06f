"""Positions of cores on the chip's mesh, and the hops of spikes between them.

A spike becomes one message to every core that holds a synapse of its neuron. A message takes as many hops as the cores
are apart, in rows plus columns. Messages from the host and detours to relays are not counted.

Cores are first placed along a Hilbert curve, in the order of the network, so that connected layers are close to each
other. A local search then exchanges positions as long as this saves hops. The result is deterministic.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch.nn.functional import conv_transpose2d

from spikefit.hardware.host import chip_projections
from spikefit.hardware.placement.base import CoreLoad, Kernel, add_pooled, kernels_of, map_shape
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program

_SWEEPS = 20


@dataclass(frozen=True, eq=False)
class Mesh:
    """Positions of cores on a mesh, and the resulting hops.

    Attributes:
        rows, columns: int64 ``[cores]``.
        hops_per_spike: sum of the messages' distances per spike, if all neurons fire equally often.
        hops_along_curve: the same before the local search.
    """

    rows: np.ndarray
    columns: np.ndarray
    hops_per_spike: float
    hops_along_curve: float


def on_mesh(target: HardwareTarget, program: Program, cores: list[CoreLoad]) -> Mesh | None:
    """Place ``cores`` on a square grid as large as the chip, or larger if the chip is too small; None without cores."""
    if not cores:
        return None
    from spikefit.functional.kernels.cpu.core_positions import improve, total_hops  # numba is slow to import

    side = math.isqrt(max(len(cores), known(target.limits.cores) or 0) - 1) + 1
    order = hilbert_order(side)[: len(cores)]
    rows, columns = order[:, 0].copy(), order[:, 1].copy()
    messages = messages_between(target, program, cores)
    firing = sum(population.neurons for population in program.populations if population.spiking)
    grid = np.full((side, side), -1, dtype=np.int64)
    grid[rows, columns] = np.arange(len(cores))
    both = csr_array(messages + messages.T)
    matrix = both.indptr.astype(np.int64), both.indices.astype(np.int64), both.data.astype(np.float64)
    before = total_hops(rows, columns, *matrix)
    improve(rows, columns, grid, *matrix, _SWEEPS)
    after = total_hops(rows, columns, *matrix)
    return Mesh(rows, columns, after / max(1, firing), before / max(1, firing))


def messages_between(target: HardwareTarget, program: Program, cores: list[CoreLoad]) -> csr_array:
    """Number of messages between cores when every neuron fires once: int64 ``[cores, cores]``, from row to column."""
    core_of = {population.name: np.full(population.neurons, -1) for population in program.populations}
    for position, core in enumerate(cores):
        for part in core.parts:
            core_of[part.population][part.neurons] = position
    kernels = {
        population.name: kernels_of(program, chip_projections(target, program, population.name))
        for population in program.populations[1:]
    }
    senders, receivers = [], []
    for position, core in enumerate(cores):
        for part in core.parts:
            shape = map_shape(program.population(part.population).shape)
            for kernel in kernels[part.population]:
                source = map_shape(program.population(kernel.projection.source).shape)
                sending = core_of[kernel.projection.source][sources_of(kernel, source, shape, part.neurons)]
                sending = sending[sending >= 0]
                senders.append(sending)
                receivers.append(np.full(len(sending), position))
    row, column = (np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64) for parts in (senders, receivers))
    counts = coo_array((np.ones(len(row), dtype=np.int64), (row, column)), shape=(len(cores), len(cores)))
    return csr_array(counts)


def sources_of(
    kernel: Kernel, source: tuple[int, int, int], shape: tuple[int, int, int], neurons: np.ndarray
) -> np.ndarray:
    """Indices of the neurons of a source population that reach any of ``neurons`` in a population of ``shape``.

    Computed on the smallest box that contains ``neurons``, because a core holds few positions of a map.
    """
    channel, row, column = np.unravel_index(neurons, shape)
    low = [int(index.min()) for index in (channel, row, column)]
    high = [int(index.max()) + 1 for index in (channel, row, column)]
    box = torch.zeros(1, *(end - start for start, end in zip(low, high, strict=True)))
    box[0, channel - low[0], row - low[1], column - low[2]] = 1
    live = kernel.live[low[0] : high[0]]
    field = conv_transpose2d(box, live, stride=kernel.stride, dilation=kernel.dilation)[0] > 0
    used = torch.zeros(kernel.source, dtype=torch.bool)
    spans = []
    for axis, start in enumerate(low[1:]):
        first = start * kernel.stride[axis] - kernel.padding[axis]
        begin, end = max(0, first), min(kernel.source[axis + 1], first + field.shape[axis + 1])
        spans.append((slice(begin, max(begin, end)), slice(begin - first, max(begin, end) - first)))
    used[:, spans[0][0], spans[1][0]] = field[:, spans[0][1], spans[1][1]]
    in_front = torch.zeros(source, dtype=torch.int64)
    add_pooled(in_front, kernel, used)
    return in_front.flatten().nonzero().flatten().numpy()


def hilbert_order(side: int) -> np.ndarray:
    """Positions ``[side * side, 2]`` (row, column) of a square, in the order of a Hilbert curve that covers it."""
    size = 1 << (side - 1).bit_length()
    steps = np.arange(size * size)
    row, column, rest, scale = np.zeros_like(steps), np.zeros_like(steps), steps.copy(), 1
    while scale < size:
        right = 1 & (rest // 2)
        down = 1 & (rest ^ right)
        flip = (down == 0) & (right == 1)
        row, column = np.where(flip, scale - 1 - row, row), np.where(flip, scale - 1 - column, column)
        row, column = np.where(down == 0, column, row), np.where(down == 0, row, column)
        row, column = row + scale * right, column + scale * down
        rest, scale = rest // 4, scale * 2
    places = np.stack([row, column], axis=1)
    return places[(places < side).all(axis=1)]
