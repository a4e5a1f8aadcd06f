"""The division of layers between the host and the chip."""

from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program, Projection


def on_host(target: HardwareTarget, program: Program, projection: Projection) -> bool:
    """Whether the host computes ``projection``: an encoder on a chip that does not multiply inputs."""
    return program.is_encoder(projection) and known(target.layers.graded_input) == "host"


def chip_projections(target: HardwareTarget, program: Program, population: str | None = None) -> list[Projection]:
    """Projections whose synapses are on the chip; if ``population`` is given, only those into this population."""
    return [
        projection
        for projection in program.projections
        if population in (None, projection.target) and not on_host(target, program, projection)
    ]
