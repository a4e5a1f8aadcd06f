"""Which neuron goes on which core: one module a family of chips, listed in ``_FAMILIES``."""

from collections.abc import Callable

from spikefit.hardware.placement.base import CoreLoad, Part, Placement
from spikefit.hardware.placement.crossbar import place_on_crossbars
from spikefit.hardware.placement.layer_per_core import place_layers
from spikefit.hardware.placement.memory import place_in_memory
from spikefit.hardware.program import Program
from spikefit.hardware.target import HardwareTarget

__all__ = ["CoreLoad", "Part", "Placement", "place"]

_FAMILIES: dict[str, Callable[[HardwareTarget, Program], Placement]] = {
    "crossbar": place_on_crossbars,
    "layer_per_core": place_layers,
    "memory": place_in_memory,
}


def place(target: HardwareTarget, program: Program) -> Placement:
    """Put the neurons of ``program`` on the cores of ``target``.

    Inputs stay on the host; every other population, the readout too, takes neurons on the chip. The same
    program gives the same placement. What does not fit is a finding of the placement, not an exception.
    """
    return _FAMILIES[target.family](target, program)
