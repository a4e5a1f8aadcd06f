"""Placement of whole layers, one per core (Speck), as an assignment problem.

A layer with ``c`` input channels, ``f`` output channels, a kernel of ``kx`` x ``ky`` and a map of ``fx`` x ``fy`` needs

* kernel entries ``c * 2**(ceil(log2(kx * ky)) + ceil(log2 f))``; a dense layer is a kernel as large as its
  map;
* neuron entries ``f * fx * fy`` with ``fx``, ``fy`` rounded up to powers of two (the stricter of sinabs's
  validators), times the hardware neurons that a neuron takes;
* bias entries ``f``, if any bias is not zero.

Two inputs of a residual layer count as one convolution over the channels of both.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spikefit.hardware.finding import Finding
from spikefit.hardware.host import chip_projections, on_host
from spikefit.hardware.placement.base import CoreLoad, Part, Placement, kernels_of, map_shape, too_many_cores
from spikefit.hardware.remedies import fewer_inputs, fewer_units, prunable, senders
from spikefit.hardware.sourced_value import known, known_or
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program, Projection


@dataclass(frozen=True)
class Needs:
    """Memory entries that one layer needs, or that one core has."""

    kernel: float
    neurons: float
    biases: float

    def fits(self, core: "Needs") -> bool:
        """Whether ``core`` holds a layer with these needs."""
        return self.kernel <= core.kernel and self.neurons <= core.neurons and self.biases <= core.biases


def place_layers(target: HardwareTarget, program: Program) -> Placement:
    """Place each population on a separate core that can hold it, with as little unused memory as possible.

    For an encoder that the host computes, only the neurons are on the core. Layers for which no core is left are
    findings. Since no core holds two layers, no placement of the placed ones needs fewer cores.
    """
    populations = program.populations[1:]
    cores = core_sizes(target, len(populations))
    needs = [layer_needs(target, program, population) for population in populations]
    chosen = assign(needs, cores)
    loads = []
    findings = too_many_cores(target, len(populations), ())
    for population, need, index in zip(populations, needs, chosen, strict=True):
        if index is None:
            smaller = prunable(program, population.name, *senders(program, population.name))
            findings.append(_homeless(program, population, need, cores, smaller))
            continue
        synapses = sum(program.synapses(p) for p in chip_projections(target, program, population.name))
        part = Part(population.name, np.arange(population.neurons))
        loads.append(CoreLoad(index, (part,), synapses, _utilisation(need, cores[index])))
    loads.sort(key=lambda load: load.index)
    unplaced = [p.name for p, index in zip(populations, chosen, strict=True) if index is None]
    return Placement("layer_per_core", tuple(loads), tuple(findings), len(loads), tuple(unplaced))


def core_sizes(target: HardwareTarget, layers: int) -> list[Needs]:
    """Memory entries of each core of ``target``; an unknown size is unlimited, unknown cores are one for each layer."""
    limits = target.limits
    lists = (known(limits.kernel_entries), known(limits.neuron_entries), known(limits.bias_entries))
    count = known_or(next((len(values) for values in lists if values is not None), layers), limits.cores)
    columns = [list(values) if values is not None else [math.inf] * count for values in lists]
    return [Needs(*sizes) for sizes in zip(*columns, strict=True)]


def layer_needs(target: HardwareTarget, program: Program, population: Population) -> Needs:
    """Memory entries that ``population`` and its synapses take."""
    kernel = 0
    for entry in kernels_of(program, chip_projections(target, program, population.name)):
        filters, channels, height, width = entry.weight.shape
        kernel += channels * (_power_of_two(height * width) * _power_of_two(filters))
    filters, height, width = map_shape(population.shape)
    neurons = filters * _power_of_two(height) * _power_of_two(width) * target.cells(population)
    biased = population.bias is not None and bool((population.bias != 0).any())
    return Needs(kernel, neurons, filters if biased and not _encoded(target, program, population) else 0)


def assign(needs: list[Needs], cores: list[Needs]) -> list[int | None]:
    """Assign a core to each layer, or None to layers that can't be placed.

    The assignment places as many layers as possible and, among those that do, leaves the least memory of the used
    cores empty.
    """
    if not needs or not cores:
        return [None] * len(needs)
    waste = np.array([[_waste(need, core) if need.fits(core) else math.inf for core in cores] for need in needs])
    finite = waste[np.isfinite(waste)]
    forbidden = 1.0 + (float(finite.max()) if len(finite) else 0.0) * (len(needs) + 1)
    rows, columns = linear_sum_assignment(np.where(np.isfinite(waste), waste, forbidden))
    chosen: list[int | None] = [None] * len(needs)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if math.isfinite(waste[row, column]):
            chosen[row] = column
    return chosen


def _waste(need: Needs, core: Needs) -> float:
    used = ((need.kernel, core.kernel), (need.neurons, core.neurons))
    return sum(size - amount for amount, size in used if math.isfinite(size))


def _utilisation(need: Needs, core: Needs) -> dict[str, float]:
    parts = {
        "kernel": (need.kernel, core.kernel),
        "neurons": (need.neurons, core.neurons),
        "biases": (need.biases, core.biases),
    }
    return {name: amount / size for name, (amount, size) in parts.items() if 0 < size < math.inf}


def _homeless(
    program: Program, population: Population, need: Needs, cores: list[Needs], prune_blocks: tuple[str, ...]
) -> Finding:
    """The finding for an unplaced layer: a memory that is too small on every core, or no suitable core left."""
    where = population.name
    largest = Needs(
        max((core.kernel for core in cores), default=0),
        max((core.neurons for core in cores), default=0),
        max((core.biases for core in cores), default=0),
    )
    parts = (
        ("kernel entries", need.kernel, largest.kernel, " or use a smaller kernel"),
        ("neuron entries", need.neurons, largest.neurons, " or use a stride"),
        ("bias entries", need.biases, largest.biases, ""),
    )
    for limit, needed, available, other in parts:
        if needed > available:
            sizes = int(needed), int(available)
            # Filters are rounded up to a power of two, input channels are not: pruning inputs helps sooner.
            kernel = limit == "kernel entries"
            remedy = fewer_inputs(program, where, *sizes) if kernel else fewer_units(population, *sizes)
            return Finding(limit, where, *sizes, remedy + other, "capacity", prune_blocks)
    wanted = f"{int(need.kernel)} kernel and {int(need.neurons)} neuron entries on one core"
    remedy = "prune its channels or those of a layer as large"
    return Finding("cores", where, wanted, "no core of that size left", remedy, "capacity", prune_blocks)


def _encoded(target: HardwareTarget, program: Program, population: Population) -> bool:
    inputs: tuple[Projection, ...] = program.inputs_of(population.name)
    return any(on_host(target, program, projection) for projection in inputs)


def _power_of_two(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()
