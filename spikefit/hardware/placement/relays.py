"""Relays of crossbar chips: neurons that copy the spikes of a neuron with more destinations than it can send to.

A neuron sends to at most ``reach`` axons (one on TrueNorth). A neuron with more destinations drives one or more *rows*
of relays, each row on one axon of another core, and each relay sends to ``reach`` axons; if there are more rows than
the neuron can drive, another level of relays drives the rows. Every spike of the neuron passes through all of its
relays: each of them performs one synaptic operation, and each level takes a tick. All destinations of a neuron are
equally far away.

A time step is one tick of the chip, and a layer computes a step as many ticks after the first layer as the longest path
to it takes: one tick for each layer, and one for each level of relays. It is assumed that spikes on shorter paths are
delayed to the same length at no cost, so that the spikes of one step still arrive together.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from spikefit.program.ir import Program


def relay_levels(destinations: int, row: int, reach: int) -> list[list[int]]:
    """Relays of a neuron: the sizes of the rows of each level, from the destinations up to the neuron.

    Args:
        destinations: number of axons that the neuron's spikes must reach.
        row: largest number of relays in a row, at least 2 if ``reach`` is 1.
        reach: number of axons that one neuron, or one relay, can send to.

    Example:
        >>> relay_levels(3, row=256, reach=1), relay_levels(10, row=4, reach=1)
        ([[3]], [[4, 4, 2], [3]])
    """
    levels: list[list[int]] = []
    while destinations > reach:
        full, rest = divmod(math.ceil(destinations / reach), row)
        levels.append([row] * full + [rest] * (rest > 0))
        destinations = len(levels[-1])
    return levels


class RelayTrees:
    """The relays of all neurons of a program.

    Args:
        destinations: number of axons that each neuron sends to, by population, int64 ``[C, H, W]``.
        row: largest number of relays in a row.
        reach: number of axons that one neuron can send to.

    Attributes:
        rows: sizes of all rows.
        relays: number of relays of each neuron, by population, int64 ``[C, H, W]``.
        depths: levels of the deepest tree of each population.
    """

    def __init__(self, destinations: Mapping[str, Tensor], row: int, reach: int) -> None:
        self.rows: list[int] = []
        self.relays: dict[str, Tensor] = {}
        self.depths: dict[str, int] = {}
        for name, needed in destinations.items():
            counts, which, neurons = needed.unique(return_inverse=True, return_counts=True)
            trees = [relay_levels(count, row, reach) for count in counts.tolist()]
            rows = [[size for level in tree for size in level] for tree in trees]
            self.rows += [size for own, times in zip(rows, neurons.tolist(), strict=True) for size in own * times]
            self.relays[name] = torch.tensor([sum(own) for own in rows])[which]
            self.depths[name] = max(len(tree) for tree in trees)


def ticks_to_output(program: Program, depths: Mapping[str, int]) -> int:
    """Ticks from a step of the first layer to the same step of the last one, along the longest path.

    Args:
        program: its populations are in the order in which spikes pass through them.
        depths: levels of relays of each population; 0 if it is missing.
    """
    begins: dict[str, int] = {}
    for population in program.populations[1:]:
        sources = [projection.source for projection in program.inputs_of(population.name)]
        begins[population.name] = max(
            (begins[source] + 1 + depths.get(source, 0) for source in sources if source in begins), default=0
        )
    return begins[program.populations[-1].name]
