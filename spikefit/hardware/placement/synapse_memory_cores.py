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
    cells_too_large,
    configurations,
    configurations_by_channel,
    kernels_of,
    map_shape,
    shared_constants,
    sources_used,
    too_many_configurations,
    too_many_cores,
)
from spikefit.hardware.remedies import fewer_inputs, prunable, senders
from spikefit.hardware.sourced_value import known_or
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
    chip = [population for population in program.populations[1:] if population.name not in unplaced]
    needs = [
        (used_cells, known_or(math.inf, target.limits.neurons_per_core)),
        (used_bits, known_or(math.inf, target.limits.synapse_bits_per_core)),
        *((len(configurations(constant, *chip)), room) for constant, room in shared_constants(target).items()),
    ]
    # A room of 0 is a finding; no number of cores suffices then.
    bound = max(math.ceil(used / max(1, room)) for used, room in needs)
    return Placement("memory", tuple(cores), tuple(findings), bound, tuple(unplaced))


class _Fill:
    """Fills cores with one population: the needs of each of its neurons, in the order of placement."""

    def __init__(self, target: HardwareTarget, program: Program, population: Population, reached: Tensor) -> None:
        self.target, self.population, self.program, limits = target, population, program, target.limits
        self.senders = senders(program, population.name)
        self.shape = map_shape(population.shape)
        self.cells = target.cells(population)
        self.max_cells = known_or(math.inf, limits.neurons_per_core)
        self.max_bits = known_or(math.inf, limits.synapse_bits_per_core)
        self.max_axons = known_or(math.inf, limits.axons_in_per_core)
        self.max_outputs = known_or(math.inf, limits.axons_out_per_core)
        self.max_destinations = known_or(math.inf, limits.axons_out_per_neuron)
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
        name = self.population.name
        if self.cells > self.max_cells:
            return cells_too_large(name, self.cells, int(self.max_cells))
        for constant, room in shared_constants(self.target).items():
            if room < 1 and (needed := len(configurations(constant, self.population))):
                return too_many_configurations(constant, name, needed, 0)
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
        worst = int(self.outputs.max())
        for limit, most in (
            ("output axons per neuron", self.max_destinations),
            ("output axons per core", self.max_outputs),
        ):
            if worst > most:
                remedy, own = "prune so that the next layers fit into fewer cores", prunable(self.program)
                return Finding(limit, name, worst, int(most), remedy, "capacity", own)
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
        shares = {name: amount / limit for name, (amount, limit) in used.items() if 0 < limit < math.inf}
        return CoreLoad(index, (part,), int(self.fan_in[start:stop].sum()), shares)


def _channel_groups(target: HardwareTarget, population: Population) -> list[np.ndarray]:
    """Channels divided into groups that may share a core; a single group if the limits on constants allow it.

    Channels are sorted by their constants, so that equal ones are in the same group, and each group is as large as the
    limits allow.
    """
    channels = map_shape(population.shape)[0]
    rooms = shared_constants(target)
    own = {name: values for name in rooms if (values := configurations_by_channel(name, population))}
    if all(len(set(values)) <= rooms[name] for name, values in own.items()):
        return [np.arange(channels)]
    groups: list[list[int]] = []
    used: dict[str, set[tuple[float, ...]]] = {}
    for channel in sorted(range(channels), key=lambda channel: [values[channel] for values in own.values()]):
        wider = {name: used.get(name, set()) | {values[channel]} for name, values in own.items()}
        if groups and all(len(values) <= rooms[name] for name, values in wider.items()):
            used = wider
        else:
            groups.append([])
            used = {name: {values[channel]} for name, values in own.items()}
        groups[-1].append(channel)
    return [np.sort(group) for group in groups]
