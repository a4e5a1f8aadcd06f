"""Placement on cores with a synapse memory of their own (Loihi).

Cores are filled in the order of the populations, each with neurons of one population only. Of a map the
neurons of one place go together, row by row, so that a core's neurons share their sources. Where a core holds but a few
distinct thresholds or decays, which its neurons share, channels of like thresholds go together first.

What a core's memory is charged: ``bits`` for each live synapse. Kernels are not shared between places (a
compiler that shares them, as NxTF does, needs less) and the indices of sparse connections are not counted
(they need more).
"""

import math

import numpy as np
import torch

from spikefit.hardware.check import Finding, chip_projections
from spikefit.hardware.figures import known
from spikefit.hardware.mends import fewer_inputs, prunable, senders
from spikefit.hardware.placement.base import (
    CoreLoad,
    Kernel,
    Part,
    Placement,
    add_pooled,
    kernels_of,
    map_shape,
    sources_used,
    too_many_cores,
)
from spikefit.hardware.program import Population, Program
from spikefit.hardware.target import HardwareTarget


def place_in_memory(target: HardwareTarget, program: Program) -> Placement:
    """Fill the cores greedily with neurons, synapse memory and input axons as limits.

    A neuron that no core can hold is a finding on its population. Output axons (one for each core that a
    neuron reaches) depend on where the targets went; they are counted afterwards, and are a finding where
    they exceed a core's.
    """
    cores: list[CoreLoad] = []
    findings: list[Finding] = []
    unplaced: list[str] = []
    used_cells = used_bits = 0
    for population in program.populations[1:]:
        fill = _Fill(target, program, population)
        used_cells += population.neurons * fill.cells
        used_bits += int(fill.bits.sum())
        finding = fill.too_large()
        if finding is not None:
            findings.append(finding)
            unplaced.append(population.name)
            continue
        cores += fill.cores(len(cores))
    findings += too_many_cores(target, len(cores), prunable(program))
    if len(cores) <= (known(target.limits.cores) or math.inf):
        findings += _output_axons(target, program, cores)
    bound = max(
        math.ceil(used_cells / (known(target.limits.neurons_per_core) or math.inf)),
        math.ceil(used_bits / (known(target.limits.synapse_bits_per_core) or math.inf)),
        *(
            math.ceil(len(_distinct(constant, *program.populations)) / room)
            for constant, room in _shared_constants(target).items()
        ),
    )
    return Placement("memory", tuple(cores), tuple(findings), bound, tuple(unplaced))


class _Fill:
    """One population on its way to the cores: what each of its neurons needs, in the order of placement."""

    def __init__(self, target: HardwareTarget, program: Program, population: Population) -> None:
        self.population, self.program, limits = population, program, target.limits
        self.senders = senders(program, population.name)
        self.shape = map_shape(population.shape)
        self.cells = target.cells(population)
        self.max_cells = known(limits.neurons_per_core) or math.inf
        self.max_bits = known(limits.synapse_bits_per_core) or math.inf
        self.max_axons = known(limits.axons_in_per_core) or math.inf
        projections = chip_projections(target, program, population.name)
        self.kernels = kernels_of(program, projections)
        numbers = np.arange(population.neurons).reshape(self.shape[0], -1)
        groups = _channel_groups(target, population)
        self.order = np.concatenate([numbers[group].T.flatten() for group in groups])
        self.ends = np.cumsum([len(group) * numbers.shape[1] for group in groups])  # no core goes beyond one
        fans = [program.fan_in(projection).flatten().numpy() for projection in projections]
        widths = [projection.bits or target.widest_bits for projection in projections]
        nothing = np.zeros(population.neurons, dtype=np.int64)
        self.fan_in = sum(fans, nothing)[self.order]
        self.bits = sum((fan * width for fan, width in zip(fans, widths, strict=True)), nothing)[self.order]

    def too_large(self) -> Finding | None:
        """A finding when a single neuron is too much for an empty core."""
        worst_bits, worst_fan = int(self.bits.max()), int(self.fan_in.max())
        if self.cells > self.max_cells:
            mend = "reset to zero, which takes one"
            name, room = self.population.name, int(self.max_cells)
            return Finding("neurons per core", name, self.cells, room, mend, "capacity")
        if worst_fan > self.max_axons:
            mend = fewer_inputs(self.program, self.population.name, worst_fan, int(self.max_axons))
            return Finding(
                "fan-in", self.population.name, worst_fan, int(self.max_axons), mend, "capacity", self.senders
            )
        if worst_bits > self.max_bits:
            fewer = fewer_inputs(self.program, self.population.name, worst_bits, int(self.max_bits))
            mend = f"{fewer} or store narrower weights"
            return Finding(
                "synapse memory (bits)",
                self.population.name,
                worst_bits,
                int(self.max_bits),
                mend,
                "capacity",
                self.senders,
            )
        return None

    def cores(self, first: int) -> list[CoreLoad]:
        """The cores that the population fills, numbered from ``first``."""
        bits = np.concatenate([[0], np.cumsum(self.bits)])
        loads: list[CoreLoad] = []
        start = 0
        while start < self.population.neurons:
            stop = int(np.searchsorted(bits, bits[start] + self.max_bits, side="right")) - 1
            if math.isfinite(self.max_cells):
                stop = min(stop, start + int(self.max_cells) // self.cells)
            end = int(self.ends[np.searchsorted(self.ends, start, side="right")])
            stop = self._within_axons(start, min(stop, end))
            loads.append(self._load(first + len(loads), start, stop))
            start = stop
        return loads

    def _within_axons(self, start: int, stop: int) -> int:
        """The last stop up to ``stop`` whose neurons have at most ``max_axons`` sources."""
        if self.max_axons >= sum(math.prod(kernel.source) * kernel.copies for kernel in self.kernels):
            return stop
        low, high = start + 1, stop
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._axons(start, middle) <= self.max_axons else (low, middle - 1)
        return low

    def _axons(self, start: int, stop: int) -> int:
        """Distinct sources of the neurons from ``start`` to ``stop``: one input axon each."""
        neurons = torch.zeros(self.population.neurons, dtype=torch.bool)
        neurons[torch.from_numpy(self.order[start:stop])] = True
        used = (int(sources_used(kernel, neurons.view(self.shape)).sum()) * kernel.copies for kernel in self.kernels)
        return sum(used)

    def _load(self, index: int, start: int, stop: int) -> CoreLoad:
        used = {
            "neurons": ((stop - start) * self.cells, self.max_cells),
            "synapse memory": (int(self.bits[start:stop].sum()), self.max_bits),
            "input axons": (self._axons(start, stop), self.max_axons),
        }
        part = Part(self.population.name, np.sort(self.order[start:stop]))
        shares = {name: amount / limit for name, (amount, limit) in used.items() if math.isfinite(limit)}
        return CoreLoad(index, (part,), int(self.fan_in[start:stop].sum()), shares)


def _shared_constants(target: HardwareTarget) -> dict[str, int]:
    """How many distinct values of a constant the neurons of a core may have, by its name in a population."""
    rooms = {
        "threshold": known(target.limits.threshold_configurations_per_core),
        "leak": known(target.limits.decay_configurations_per_core),
    }
    return {name: room for name, room in rooms.items() if room is not None}


def _distinct(constant: str, *populations: Population) -> set[float]:
    tensors = [getattr(population, constant) for population in populations]
    return {value for tensor in tensors if tensor is not None for value in tensor.tolist()}


def _channel_groups(target: HardwareTarget, population: Population) -> list[np.ndarray]:
    """Channels cut into groups that may share a core: a single one, unless they differ in too many constants.

    Sorted by their constants, so that equal ones lie in one group, each of which takes as many as there may be.
    """
    rooms = _shared_constants(target)
    if all(len(_distinct(constant, population)) <= room for constant, room in rooms.items()):
        return [np.arange(map_shape(population.shape)[0])]
    constants = np.stack([getattr(population, constant).numpy() for constant in rooms])
    groups: list[list[int]] = []
    seen: list[set[float]] = []
    for channel in np.lexsort(constants[::-1]).tolist():
        own = [{value} for value in constants[:, channel].tolist()]
        wider = [values | value for values, value in zip(seen, own, strict=True)] if groups else []
        if groups and all(len(values) <= room for values, room in zip(wider, rooms.values(), strict=True)):
            seen = wider
        else:
            groups.append([])
            seen = own
        groups[-1].append(channel)
    return [np.sort(group) for group in groups]


def _output_axons(target: HardwareTarget, program: Program, cores: list[CoreLoad]) -> list[Finding]:
    """A finding for each population with a core of too few axons for the cores that its neurons reach."""
    available = known(target.limits.axons_out_per_core)
    if available is None:
        return []
    reached = {p.name: torch.zeros(map_shape(p.shape), dtype=torch.int64) for p in program.populations}
    kernels: dict[str, list[Kernel]] = {
        p.name: kernels_of(program, chip_projections(target, program, p.name)) for p in program.populations[1:]
    }
    for core in cores:
        for part in core.parts:
            neurons = torch.zeros(program.population(part.population).neurons, dtype=torch.bool)
            neurons[torch.from_numpy(part.neurons)] = True
            shape = map_shape(program.population(part.population).shape)
            for kernel in kernels[part.population]:
                add_pooled(reached[kernel.projection.source], kernel, sources_used(kernel, neurons.view(shape)))
    worst: dict[str, int] = {}
    for core in cores:
        for part in core.parts:
            needed = int(reached[part.population].flatten()[torch.from_numpy(part.neurons)].sum())
            worst[part.population] = max(needed, worst.get(part.population, 0))
    mend = "prune so that the next layers fit into fewer cores"
    return [
        Finding("output axons per core", name, needed, available, mend, "capacity", prunable(program))
        for name, needed in worst.items()
        if needed > available
    ]
