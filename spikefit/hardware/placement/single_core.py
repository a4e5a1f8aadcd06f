"""Placement on chips with a single core, which must hold the whole network (Xylo)."""

import numpy as np

from spikefit.hardware.host import chip_projections
from spikefit.hardware.placement.base import CoreLoad, Part, Placement
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program


def place_on_one_core(target: HardwareTarget, program: Program) -> Placement:
    """Place every population on the core; :mod:`spikefit.hardware.check_chip_capacity` checks its limits."""
    chip = program.populations[1:]
    synapses = sum(program.synapses(projection) for projection in chip_projections(target, program))
    used = {
        "inputs": (program.populations[0].neurons, known(target.limits.inputs)),
        "hidden neurons": (sum(population.neurons for population in chip[:-1]), known(target.limits.hidden_neurons)),
        "outputs": (chip[-1].neurons, known(target.limits.outputs)),
        "synapses": (synapses, known(target.limits.synapses_per_chip)),
    }
    shares = {limit: amount / available for limit, (amount, available) in used.items() if available is not None}
    parts = tuple(Part(population.name, np.arange(population.neurons)) for population in chip)
    return Placement("single_core", (CoreLoad(0, parts, synapses, shares),), lower_bound=1)
