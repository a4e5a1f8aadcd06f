"""Context of a deployment: chip, time steps and kind of inputs, set once per run."""

from dataclasses import dataclass

from spikefit.errors import ConfigurationError, check_range
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind


@dataclass(frozen=True)
class DeploymentContext:
    """Chip, time steps and kind of inputs; shared by fitting, emulation, costs, budgets, deployment and export.

    Attributes:
        target: the chip; None for a run without a chip, which is enough for an ``exact`` program.
        time_steps: steps of an inference.
        input_kind: what the network reads in a step.

    Raises:
        ConfigurationError: for less than one step.

    Example:
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), time_steps=4, input_kind=InputKind.SPIKES)
        >>> context.chip.name
        'loihi'
    """

    target: HardwareTarget | None
    time_steps: int
    input_kind: InputKind

    def __post_init__(self) -> None:
        check_range("time_steps", self.time_steps, 1)

    @property
    def chip(self) -> HardwareTarget:
        """The chip, which must be set.

        Raises:
            ConfigurationError: if ``target`` is None.
        """
        if self.target is None:
            raise ConfigurationError("hardware: no chip is named; expected one, for example --hardware loihi.")
        return self.target
