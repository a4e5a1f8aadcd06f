"""Placement of neurons on cores: one module per family of chips, listed in ``_FAMILIES``."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spikefit.hardware.placement.base import CoreLoad, Part, Placement
from spikefit.hardware.placement.crossbar_cores import place_on_crossbars
from spikefit.hardware.placement.layer_per_core import place_layers
from spikefit.hardware.placement.mesh import on_mesh
from spikefit.hardware.placement.single_core import place_on_one_core
from spikefit.hardware.placement.synapse_memory_cores import place_in_memory
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program

__all__ = ["CoreLoad", "Part", "Placement", "place"]

_ON_MESH = ("crossbar", "memory")
_FAMILIES: dict[str, Callable[[HardwareTarget, Program], Placement]] = {
    "crossbar": place_on_crossbars,
    "layer_per_core": place_layers,
    "memory": place_in_memory,
    "single_core": place_on_one_core,
}


def place(target: HardwareTarget, program: Program, hops: bool = True) -> Placement:
    """Place the neurons of ``program`` on the cores of ``target``, and the cores on its mesh.

    Inputs stay on the host; all other populations, including the readout, take neurons on the chip. The placement is
    deterministic. A violated limit is a finding of the placement, not an exception.

    Args:
        target: the chip.
        program: in either precision.
        hops: whether to assign positions on the mesh to the cores (families ``crossbar`` and ``memory``), which takes
            most of the time for thousands of cores.
    """
    placement = _FAMILIES[target.family](target, program)
    mesh = on_mesh(target, program, list(placement.cores)) if hops and target.family in _ON_MESH else None
    if mesh is None:
        return placement
    positions = np.stack([mesh.rows, mesh.columns], axis=1)
    return replace(placement, hops_per_spike=mesh.hops_per_spike, positions=positions)
