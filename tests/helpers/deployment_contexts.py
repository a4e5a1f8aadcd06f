"""Short constructor of deployment contexts."""

from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind


def context(steps: int, graded: bool = False, target: str | HardwareTarget | None = None) -> DeploymentContext:
    """Spikes, or images in direct coding (``graded``), on ``target``, which may be named."""
    chip = HardwareTarget.load(target) if isinstance(target, str) else target
    return DeploymentContext(chip, steps, InputKind.CONSTANT if graded else InputKind.SPIKES)
