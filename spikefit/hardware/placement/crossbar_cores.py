"""Placement on crossbar cores (TrueNorth): a grid of axons and neurons, where a synapse is one bit.

The weight of a synapse is selected by its axon's *type*: each neuron has one value per type. A projection that defines
the types of its inputs needs one axon per source. Otherwise types follow from the values, and a source whose synapses
onto a core use several types needs a copy of its axon for each type, which is exact. A population is cut into tiles,
each a block of channels over a rectangle of the map, such that a core's axons hold the tile's receptive field (after
any pooling).

A neuron that can't send to all of its destinations drives a tree of relays on other cores
(:mod:`spikefit.hardware.placement.relays`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from spikefit.errors import ConfigurationError
from spikefit.functional.convolution import ungrouped
from spikefit.hardware.finding import Finding
from spikefit.hardware.host import chip_projections
from spikefit.hardware.placement.base import (
    CoreLoad,
    Kernel,
    Part,
    Placement,
    add_pooled,
    cells_too_large,
    kernels_of,
    map_shape,
    too_many_cores,
)
from spikefit.hardware.placement.relays import RelayTrees, ticks_to_output
from spikefit.hardware.remedies import fewer_inputs, prunable, senders
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program
from spikefit.program.stored_weights import StoredWeights, joined

_UNLIMITED = 2**62


def place_on_crossbars(target: HardwareTarget, program: Program) -> Placement:
    """Tile every population over crossbar cores and add the relays.

    All tiles of a population have the same sides, chosen for the fewest cores, and as many channels as fit. A
    population with a neuron that needs more axons than a core has is a finding and remains unplaced.

    Every core holds at most ``neurons_per_core`` neurons, so that no placement of the placed populations needs fewer
    cores than their neurons divided by that number. Relays can only add cores.
    """
    limits = target.limits
    max_neurons, max_axons = known(limits.neurons_per_core), known(limits.axons_in_per_core)
    size = _Core(*(_UNLIMITED if most is None else most for most in (max_neurons, max_axons)))
    cores: list[CoreLoad] = []
    findings: list[Finding] = []
    unplaced: list[str] = []
    copied: list[str] = []
    destinations = {p.name: torch.zeros(map_shape(p.shape), dtype=torch.int64) for p in program.populations}
    for population in program.populations[1:]:
        layer = _Layer.of(target, program, population)
        copied += [population.name] if layer.copies_axons else []
        side, groups = layer.best_tiling(size)
        if not groups:
            small = layer.cells > size.neurons
            findings.append(
                cells_too_large(population.name, layer.cells, size.neurons)
                if small
                else _too_many_axons(layer, program, size.axons, senders(program, population.name))
            )
            unplaced.append(population.name)
            continue
        for tile in layer.tiles(side, groups):
            cores.append(layer.load(len(cores), tile, size, destinations))
    trees, found = _relay_trees(target, program, destinations, size)
    findings += found
    cores += [] if trees is None else _relay_cores(trees.rows, size, len(cores))
    findings += too_many_cores(target, len(cores), prunable(program), _one_axon_a_source(copied))
    placed = target.all_cells(p for p in program.populations if p.name not in unplaced)
    direct = ticks_to_output(program, {})
    return Placement(
        "crossbar",
        tuple(cores),
        tuple(findings),
        math.ceil(placed / max(1, size.neurons)),
        tuple(unplaced),
        relays=None if trees is None else trees.relays,
        relay_ticks=None if trees is None else ticks_to_output(program, trees.depths) - direct,
        layer_ticks=direct,
    )


def axon_types(stored: StoredWeights, limit: int | None) -> Tensor:
    """Axon type that each weight needs, from 1; 0 for no synapse: int64, in the shape of the weights.

    If all neurons together use at most ``limit`` values, the type is the value's rank among these; otherwise it is the
    rank among the neuron's own values.
    """
    stored = stored.merged()
    few = limit is None or int(stored.distinct(zero_counts=False)) <= limit
    return stored.ranks() if few else stored.by_output().ranks()


def _types_of_population(kernels: list[Kernel], limit: int | None) -> list[Tensor]:
    """Axon type that each weight of ``kernels`` needs, from 1; 0 for no synapse: int64, in the kernels' shapes.

    Kernels that define types keep them, each in a separate range; the values of the other kernels give the types after
    these. If that makes too many types for a core, all types follow from the values.
    """
    carrying = [kernel for kernel in kernels if kernel.types is not None]
    free = [kernel for kernel in kernels if kernel.types is None]
    found: dict[str, Tensor] = {}
    last = 0
    for group in [[kernel] for kernel in carrying] + [free] * bool(free):
        types = _types_of_values(group, limit) if group is free else [_carried_types(group[0])]
        for kernel, own in zip(group, types, strict=True):
            found[kernel.projection.name] = torch.where(own > 0, own + last, 0)
        last = max(last, *(int(found[kernel.projection.name].max()) for kernel in group))
    if carrying and limit is not None and last > limit:
        return _types_of_values(kernels, limit)
    return [found[kernel.projection.name] for kernel in kernels]


def _types_of_values(kernels: list[Kernel], limit: int | None) -> list[Tensor]:
    """:func:`axon_types` of all ``kernels`` together."""
    projections = [kernel.projection for kernel in kernels]
    rows = axon_types(joined([projection.stored for projection in projections]), limit)
    parts = rows.split([projection.weight[0].numel() for projection in projections], dim=1)
    found = []
    for kernel, part in zip(kernels, parts, strict=True):
        types = part.reshape(kernel.projection.weight.shape)
        found.append(ungrouped(types, kernel.projection.groups).reshape(kernel.weight.shape))
    return found


def _carried_types(kernel: Kernel) -> Tensor:
    """The types that ``kernel`` defines, from 1, for its synapses; 0 elsewhere.

    Raises:
        ConfigurationError: if a neuron has several values of one type.
    """
    assert kernel.types is not None
    rows, columns = kernel.weight.flatten(1), kernel.types.flatten()
    for kind in columns.unique().tolist():
        own = rows[:, columns == kind]
        first = own.gather(1, (own != 0).to(torch.int64).argmax(dim=1, keepdim=True))
        wrong = ((own != 0) & (own != first)).any(dim=1).nonzero()
        if len(wrong):
            raise ConfigurationError(
                f"axon_types: got a projection {kernel.projection.name} whose output {int(wrong[0])} has several "
                f"weights of type {kind}, expected at most one non-zero value per type."
            )
    return (kernel.types + 1) * (kernel.weight != 0)


@dataclass(frozen=True)
class _Core:
    neurons: int
    axons: int

    def shares(self, neurons: int, axons: int) -> dict[str, float]:
        """The shares of the core's limits that ``neurons`` and ``axons`` use."""
        used = {"neurons": (neurons, self.neurons), "axons": (axons, self.axons)}
        return {name: amount / most for name, (amount, most) in used.items() if 0 < most < _UNLIMITED}


@dataclass(frozen=True)
class _Tile:
    """Channels ``first`` to ``last`` (exclusive) over rows and columns ``top, left, bottom, right``."""

    channels: tuple[int, int]
    top: int
    left: int
    bottom: int
    right: int

    @property
    def sides(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def neurons(self) -> int:
        return (self.channels[1] - self.channels[0]) * self.sides[0] * self.sides[1]


class _Layer:
    """A population, its kernels, and the axon types of each kernel: bool ``[out, types * in, kh, kw]``."""

    def __init__(
        self, population: Population, cells: int, kernels: list[Kernel], types: list[Tensor], fan_in: Tensor
    ) -> None:
        self.population, self.cells, self.fan_in = population, cells, fan_in
        self.kernels, self.types = kernels, types
        self.shape = map_shape(population.shape)
        self._recent = lru_cache(maxsize=16)(self._pattern)

    @classmethod
    def of(cls, target: HardwareTarget, program: Program, population: Population) -> "_Layer":
        projections = chip_projections(target, program, population.name)
        kernels = kernels_of(program, projections)
        fan_in = torch.zeros(map_shape(population.shape), dtype=torch.int64)
        for projection in projections:
            fan_in += program.fan_in(projection).view(fan_in.shape)
        if not kernels:
            return cls(population, target.cells(population), [], [], fan_in)
        rule = target.weights.unique_values
        found = _types_of_population(kernels, None if rule is None else rule.count.value)
        count = max(1, *(int(types.max()) for types in found))
        types = [torch.cat([own == kind for kind in range(1, count + 1)], dim=1) for own in found]
        return cls(population, target.cells(population), kernels, types, fan_in)

    @property
    def copies_axons(self) -> bool:
        """Whether types follow from the values and there are several types."""
        several = any(len(types[0]) > kernel.source[0] for kernel, types in zip(self.kernels, self.types, strict=True))
        return several and all(kernel.types is None for kernel in self.kernels)

    def best_tiling(self, size: _Core) -> tuple[int, list[tuple[int, int]]]:
        """Side and channel groups of the tiles that need the fewest cores; no groups if no tile fits."""
        best: tuple[int, int, list[tuple[int, int]]] | None = None
        longest = max(self.shape[1:])
        for side in range(1, min(longest, math.isqrt(size.neurons // self.cells)) + 1):
            groups = self._groups(side, size)
            if groups is None:
                break
            cores = math.ceil(self.shape[1] / side) * math.ceil(self.shape[2] / side) * len(groups)
            if best is None or cores <= best[0]:
                best = (cores, side, groups)
        return (1, []) if best is None else (best[1], best[2])

    def _groups(self, side: int, size: _Core) -> list[tuple[int, int]] | None:
        """Channels cut into groups that fit a core with tiles of ``side``; None if one channel does not."""
        height, width = min(side, self.shape[1]), min(side, self.shape[2])
        groups: list[tuple[int, int]] = []
        start = 0
        while start < self.shape[0]:
            low, high = start, min(self.shape[0], start + size.neurons // (height * width * self.cells))
            while low < high:  # bisection: more channels never need fewer axons
                middle = (low + high + 1) // 2
                fits = self._most_axons(start, middle, height, width) <= size.axons
                low, high = (middle, high) if fits else (low, middle - 1)
            if low == start:
                return None
            groups.append((start, low))
            start = low
        return groups

    def _most_axons(self, first: int, last: int, height: int, width: int) -> int:
        """The largest number of axons of any tile of ``height`` x ``width``.

        If the whole receptive field of some tile lies inside the map, no tile needs more; otherwise all are counted.
        """
        total = 0
        for index, kernel in enumerate(self.kernels):
            used = self._pattern(index, first, last, height, width)
            worst = int(used.sum())
            if not self._some_inside(kernel, used, height, width):
                worst = max(
                    int(self._clip(kernel, self._pattern(index, first, last, *tile.sides), tile.top, tile.left).sum())
                    for tile in self._cut((first, last), height, width)
                )
            total += worst * kernel.copies
        return total

    def _some_inside(self, kernel: Kernel, used: Tensor, height: int, width: int) -> bool:
        """Whether the receptive field of a full tile lies inside the map for some tile."""
        spans = zip((height, width), self.shape[1:], kernel.source[1:], used.shape[2:], range(2), strict=True)
        return all(
            any(
                0 <= _origin(kernel, start, start)[axis] <= source - field
                for start in range(0, length - side + 1, side)
            )
            for side, length, source, field, axis in spans
        )

    def _pattern(self, index: int, first: int, last: int, height: int, width: int) -> Tensor:
        """Types that each position of the whole receptive field needs: bool ``[types, in, rows, columns]``."""
        kernel = self.kernels[index]
        live = self.types[index][first:last].any(dim=0, keepdim=True).float()
        spread = conv_transpose2d(torch.ones(1, 1, height, width), live, stride=kernel.stride, dilation=kernel.dilation)
        return (spread[0] > 0).unflatten(0, (-1, kernel.source[0]))

    def _clip(self, kernel: Kernel, used: Tensor, top: int, left: int) -> Tensor:
        """The part of ``used`` that lies inside the map, without the padding, for a tile at ``top``, ``left``."""
        y, x = _origin(kernel, top, left)
        rows, columns = used.shape[2], used.shape[3]
        return used[
            :,
            :,
            max(0, -y) : max(0, min(rows, kernel.source[1] - y)),
            max(0, -x) : max(0, min(columns, kernel.source[2] - x)),
        ]

    def tiles(self, side: int, groups: list[tuple[int, int]]) -> Iterator[_Tile]:
        """All tiles, group by group and row by row."""
        for channels in groups:
            yield from self._cut(channels, side, side)

    def _cut(self, channels: tuple[int, int], height: int, width: int) -> Iterator[_Tile]:
        for top in range(0, self.shape[1], height):
            for left in range(0, self.shape[2], width):
                bottom, right = min(self.shape[1], top + height), min(self.shape[2], left + width)
                yield _Tile(channels, top, left, bottom, right)

    def load(self, index: int, tile: _Tile, size: _Core, destinations: dict[str, Tensor]) -> CoreLoad:
        """The core that holds ``tile``; its axons are added to the ``destinations`` of their sources."""
        axons = 0
        for number, kernel in enumerate(self.kernels):
            pattern = self._recent(number, *tile.channels, *tile.sides)
            used = self._clip(kernel, pattern, tile.top, tile.left)
            axons += int(used.sum()) * kernel.copies
            y, x = (max(0, start) for start in _origin(kernel, tile.top, tile.left))
            field = torch.zeros(kernel.source, dtype=torch.int64)
            field[:, y : y + used.shape[2], x : x + used.shape[3]] = used.sum(dim=0)
            add_pooled(destinations[kernel.projection.source], kernel, field)
        block = (slice(*tile.channels), slice(tile.top, tile.bottom), slice(tile.left, tile.right))
        numbers = np.arange(self.population.neurons).reshape(self.shape)[block].flatten()
        synapses = int(self.fan_in[block].sum())
        shares = size.shares(tile.neurons * self.cells, axons)
        return CoreLoad(index, (Part(self.population.name, numbers),), synapses, shares)


def _origin(kernel: Kernel, top: int, left: int) -> tuple[int, int]:
    """Position in the source map at which the receptive field of a tile begins; negative within the padding."""
    return top * kernel.stride[0] - kernel.padding[0], left * kernel.stride[1] - kernel.padding[1]


def _one_axon_a_source(populations: list[str]) -> str:
    """The end of a remedy that says how to avoid the axon copies of ``populations``."""
    if not populations:
        return ""
    return f", or use codebook scope axon (spikefit.quantize.AxonCodebook) in {', '.join(populations)}"


def _too_many_axons(layer: _Layer, program: Program, available: int, prune_blocks: tuple[str, ...]) -> Finding:
    needed = int(layer.fan_in.max())
    remedy = fewer_inputs(program, layer.population.name, needed, available)
    return Finding(
        "fan-in (axons of a core)", layer.population.name, needed, available, remedy, "capacity", prune_blocks
    )


def _relay_trees(
    target: HardwareTarget, program: Program, destinations: dict[str, Tensor], size: _Core
) -> tuple[RelayTrees | None, list[Finding]]:
    """The relays that the chip's neurons need; None if they are unknown or impossible, which is a finding."""
    limit = target.limits.axons_out_per_neuron
    sending = {population.name: destinations[population.name] for population in program.populations[1:]}
    most = max(int(needed.max()) for needed in sending.values())
    if limit is None or (limit.value is None and most <= 1):
        return RelayTrees({}, size.neurons, 1), []
    if limit.value is None:
        return None, []
    if most > limit.value and limit.value * size.neurons < 2:
        remedy = "a neuron that sends to several cores needs relays, which need at least two neurons per core"
        short = ("neurons per core", 2, size.neurons) if limit.value else ("output axons per neuron", most, 0)
        return None, [Finding(short[0], target.name, *short[1:], remedy, "capacity")]
    return RelayTrees(sending, size.neurons, limit.value), []


def _relay_cores(rows: list[int], size: _Core, first: int) -> list[CoreLoad]:
    """Cores of relays: rows in descending order of size, each on the last core if it fits there."""
    filled: list[tuple[int, int]] = []
    for row in sorted(rows, reverse=True):
        if filled and filled[-1][0] + row <= size.neurons and filled[-1][1] < size.axons:
            filled[-1] = (filled[-1][0] + row, filled[-1][1] + 1)
        else:
            filled.append((row, 1))
    return [
        CoreLoad(first + offset, (), 0, size.shares(relays, axons), splitters=relays)
        for offset, (relays, axons) in enumerate(filled)
    ]
