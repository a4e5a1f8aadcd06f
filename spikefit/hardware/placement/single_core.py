"""Placement on chips with a single core, which must hold the whole network (Xylo)."""

import numpy as np
import torch

from spikefit.hardware.finding import Finding
from spikefit.hardware.host import chip_projections
from spikefit.hardware.placement.base import (
    CoreLoad,
    Part,
    Placement,
    configurations,
    shared_constants,
    too_many_configurations,
)
from spikefit.hardware.remedies import prunable
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program


def place_on_one_core(target: HardwareTarget, program: Program) -> Placement:
    """Place every population on the core, and compare what all of them need together with the limits of a core.

    A source takes one input axon, and a neuron that sends to others one output axon.
    :mod:`spikefit.hardware.check_chip_capacity` checks the limits of the chip.
    """
    chip, limits = program.populations[1:], target.limits
    projections = chip_projections(target, program)
    synapses = [program.synapses(projection) for projection in projections]
    widths = [target.widest_bits if projection.bits is None else projection.bits for projection in projections]
    sending = [_sending(target, program, population.name) for population in program.populations]
    bits = sum(count * width for count, width in zip(synapses, widths, strict=True))
    of_core = {
        "neurons": (target.all_cells(chip), limits.neurons_per_core),
        "input axons": (sum(sending), limits.axons_in_per_core),
        "output axons": (sum(sending[1:]), limits.axons_out_per_core),
        "synapse memory": (bits, limits.synapse_bits_per_core),
    }
    of_chip = {
        "inputs": (program.populations[0].neurons, limits.inputs),
        "hidden neurons": (target.all_cells(chip[:-1]), limits.hidden_neurons),
        "outputs": (target.all_cells(chip[-1:]), limits.outputs),
        "synapses": (sum(synapses), limits.synapses_per_chip),
    }
    findings = []
    for name, (needed, figure) in of_core.items():
        if (available := known(figure)) is not None and needed > available:
            limit = "synapse memory (bits)" if name == "synapse memory" else f"{name} per core"
            remedy = f"prune until {needed - available} fewer are needed"
            findings.append(Finding(limit, target.name, needed, available, remedy, "capacity", prunable(program)))
    for constant, room in shared_constants(target).items():
        if (needed := len(configurations(constant, *chip))) > room:
            findings.append(too_many_configurations(constant, target.name, needed, room))
    shares = {name: used / most for name, (used, figure) in {**of_chip, **of_core}.items() if (most := known(figure))}
    parts = tuple(Part(population.name, np.arange(population.neurons)) for population in chip)
    return Placement("single_core", (CoreLoad(0, parts, sum(synapses), shares),), tuple(findings), lower_bound=1)


def _sending(target: HardwareTarget, program: Program, name: str) -> int:
    """Number of neurons of population ``name`` that have a synapse on the chip."""
    leaving = [program.fan_out(p).flatten() for p in chip_projections(target, program) if p.source == name]
    return int(torch.stack(leaving).any(dim=0).sum()) if leaving else 0
