"""Placement on cores that each have a synapse memory (Loihi).

Cores are filled in the order of the populations, each with neurons of one population only. In a map, the neurons of one
position are kept together, row by row, so that a core's neurons share their sources. If a core supports only a few
distinct thresholds or decays, channels with equal values are grouped first.

Each live synapse takes ``bits`` of a core's memory. Kernels are not shared between positions (a compiler that shares
them, as NxTF does, needs less memory), and the indices of sparse connections are not counted (they need more).
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from spikefit.hardware.finding import Finding
from spikefit.hardware.host import chip_projections
from spikefit.hardware.placement.base import (
    CoreLoad,
    Part,
    Placement,
    add_pooled,
    kernels_of,
    map_shape,
    sources_used,
    too_many_cores,
)
from spikefit.hardware.remedies import fewer_inputs, prunable, senders
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program


def place_in_memory(target: HardwareTarget, program: Program) -> Placement:
    """Fill the cores greedily, limited by neurons, synapse memory, input axons and output axons.

    If no core can hold a neuron, its population gets a finding. A neuron takes an output axon for each core that it
    reaches, which depends on the placement of its targets; the last population is therefore placed first.

    The lower bound holds for every placement of the placed populations: each of their neurons takes its hardware
    neurons and its synapse memory on exactly one core, and each of their distinct constants is on some core, while a
    core has room for a fixed number of each. Axons can be shared by neurons and are not part of the bound.
    """
    filled: list[list[CoreLoad]] = []
    findings: list[Finding] = []
    unplaced: list[str] = []
    used_cells = used_bits = 0
    reached = {p.name: torch.zeros(map_shape(p.shape), dtype=torch.int64) for p in program.populations}
    for population in reversed(program.populations[1:]):
        fill = _Fill(target, program, population, reached[population.name])
        finding = fill.too_large()
        if finding is not None:
            findings.insert(0, finding)
            unplaced.insert(0, population.name)
            continue
        used_cells += population.neurons * fill.cells
        used_bits += int(fill.bits.sum())
        filled.insert(0, fill.cores())
        for core in filled[0]:
            fill.reach(core, reached)
    cores = [replace(core, index=index) for index, core in enumerate(itertools.chain(*filled))]
    findings += too_many_cores(target, len(cores), prunable(program))
    bound = max(
        math.ceil(used_cells / (known(target.limits.neurons_per_core) or math.inf)),
        math.ceil(used_bits / (known(target.limits.synapse_bits_per_core) or math.inf)),
        *(
            math.ceil(len(_distinct(constant, *(p for p in program.populations if p.name not in unplaced))) / room)
            for constant, room in _shared_constants(target).items()
        ),
    )
    return Placement("memory", tuple(cores), tuple(findings), bound, tuple(unplaced))


class _Fill:
    """Fills cores with one population: the needs of each of its neurons, in the order of placement."""

    def __init__(self, target: HardwareTarget, program: Program, population: Population, reached: Tensor) -> None:
        self.population, self.program, limits = population, program, target.limits
        self.senders = senders(program, population.name)
        self.shape = map_shape(population.shape)
        self.cells = target.cells(population)
        self.max_cells = known(limits.neurons_per_core) or math.inf
        self.max_bits = known(limits.synapse_bits_per_core) or math.inf
        self.max_axons = known(limits.axons_in_per_core) or math.inf
        self.max_outputs = known(limits.axons_out_per_core) or math.inf
        projections = chip_projections(target, program, population.name)
        self.kernels = kernels_of(program, projections)
        numbers = np.arange(population.neurons).reshape(self.shape[0], -1)
        groups = _channel_groups(target, population)
        self.order = np.concatenate([numbers[group].T.flatten() for group in groups])
        self.ends = np.cumsum([len(group) * numbers.shape[1] for group in groups])  # a core stays within one group
        fans = [program.fan_in(projection).flatten().numpy() for projection in projections]
        widths = [projection.bits or target.widest_bits for projection in projections]
        nothing = np.zeros(population.neurons, dtype=np.int64)
        self.fan_in = sum(fans, nothing)[self.order]
        self.bits = sum((fan * width for fan, width in zip(fans, widths, strict=True)), nothing)[self.order]
        self.outputs = reached.flatten().numpy()[self.order]

    def too_large(self) -> Finding | None:
        """A finding if a single neuron exceeds the limits of an empty core."""
        worst_bits, worst_fan = int(self.bits.max()), int(self.fan_in.max())
        if self.cells > self.max_cells:
            remedy = "reset to zero, which takes one hardware neuron"
            name, room = self.population.name, int(self.max_cells)
            return Finding("neurons per core", name, self.cells, room, remedy, "capacity")
        if worst_fan > self.max_axons:
            remedy = fewer_inputs(self.program, self.population.name, worst_fan, int(self.max_axons))
            return Finding(
                "fan-in", self.population.name, worst_fan, int(self.max_axons), remedy, "capacity", self.senders
            )
        if worst_bits > self.max_bits:
            fewer = fewer_inputs(self.program, self.population.name, worst_bits, int(self.max_bits))
            remedy = f"{fewer} or store narrower weights"
            return Finding(
                "synapse memory (bits)",
                self.population.name,
                worst_bits,
                int(self.max_bits),
                remedy,
                "capacity",
                self.senders,
            )
        if (worst := int(self.outputs.max())) > self.max_outputs:
            remedy, own = "prune so that the next layers fit into fewer cores", prunable(self.program)
            where, room = self.population.name, int(self.max_outputs)
            return Finding("output axons per core", where, worst, room, remedy, "capacity", own)
        return None

    def cores(self) -> list[CoreLoad]:
        """The cores that the population fills, numbered from 0."""
        bits, outputs = (np.concatenate([[0], np.cumsum(each)]) for each in (self.bits, self.outputs))
        loads: list[CoreLoad] = []
        start = 0
        while start < self.population.neurons:
            stop = int(np.searchsorted(bits, bits[start] + self.max_bits, side="right")) - 1
            if math.isfinite(self.max_cells):
                stop = min(stop, start + int(self.max_cells) // self.cells)
            stop = min(stop, int(np.searchsorted(outputs, outputs[start] + self.max_outputs, side="right")) - 1)
            end = int(self.ends[np.searchsorted(self.ends, start, side="right")])
            stop = self._within_axons(start, min(stop, end))
            loads.append(self._load(len(loads), start, stop))
            start = stop
        return loads

    def reach(self, core: CoreLoad, reached: dict[str, Tensor]) -> None:
        """Count ``core`` as a destination of its sources in ``reached``, in place."""
        neurons = self._marked(core.parts[0].neurons)
        for kernel in self.kernels:
            add_pooled(reached[kernel.projection.source], kernel, sources_used(kernel, neurons))

    def _marked(self, neurons: np.ndarray) -> Tensor:
        """``neurons`` as a mask over the map, bool ``[C, H, W]``."""
        marked = torch.zeros(self.population.neurons, dtype=torch.bool)
        marked[torch.from_numpy(neurons)] = True
        return marked.view(self.shape)

    def _within_axons(self, start: int, stop: int) -> int:
        """The largest end, up to ``stop``, such that the neurons from ``start`` have at most ``max_axons`` sources."""
        if self.max_axons >= sum(math.prod(kernel.source) * kernel.copies for kernel in self.kernels):
            return stop
        low, high = start + 1, stop
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._axons(start, middle) <= self.max_axons else (low, middle - 1)
        return low

    def _axons(self, start: int, stop: int) -> int:
        """Number of distinct sources of the neurons from ``start`` to ``stop``, which take one input axon each."""
        neurons = self._marked(self.order[start:stop])
        return sum(int(sources_used(kernel, neurons).sum()) * kernel.copies for kernel in self.kernels)

    def _load(self, index: int, start: int, stop: int) -> CoreLoad:
        axons = self._axons(start, stop) if math.isfinite(self.max_axons) else 0  # not reported without a limit
        used = {
            "neurons": ((stop - start) * self.cells, self.max_cells),
            "synapse memory": (int(self.bits[start:stop].sum()), self.max_bits),
            "input axons": (axons, self.max_axons),
            "output axons": (int(self.outputs[start:stop].sum()), self.max_outputs),
        }
        part = Part(self.population.name, np.sort(self.order[start:stop]))
        shares = {name: amount / limit for name, (amount, limit) in used.items() if math.isfinite(limit)}
        return CoreLoad(index, (part,), int(self.fan_in[start:stop].sum()), shares)


def _shared_constants(target: HardwareTarget) -> dict[str, int]:
    """Limits on the distinct values of a constant on a core, by the constant's name in a population."""
    rooms = {
        "threshold": known(target.limits.threshold_configurations_per_core),
        "leak": known(target.limits.decay_configurations_per_core),
    }
    return {name: room for name, room in rooms.items() if room is not None}


def _distinct(constant: str, *populations: Population) -> set[float]:
    tensors = [getattr(population, constant) for population in populations]
    return {value for tensor in tensors if tensor is not None for value in tensor.tolist()}


def _channel_groups(target: HardwareTarget, population: Population) -> list[np.ndarray]:
    """Channels divided into groups that may share a core; a single group if the limits on constants allow it.

    Channels are sorted by their constants, so that equal ones are in the same group, and each group is as large as the
    limits allow.
    """
    rooms = _shared_constants(target)
    if all(len(_distinct(constant, population)) <= room for constant, room in rooms.items()):
        return [np.arange(map_shape(population.shape)[0])]
    constants = np.stack([getattr(population, constant).numpy() for constant in rooms])
    groups: list[list[int]] = []
    used: list[set[float]] = []
    for channel in np.lexsort(constants[::-1]).tolist():
        own = [{value} for value in constants[:, channel].tolist()]
        wider = [values | value for values, value in zip(used, own, strict=True)] if groups else []
        if groups and all(len(values) <= room for values, room in zip(wider, rooms.values(), strict=True)):
            used = wider
        else:
            groups.append([])
            used = own
        groups[-1].append(channel)
    return [np.sort(group) for group in groups]
