"""What a deployment is for: chip, steps and inputs, decided once a run and handed to every part that needs them."""

from dataclasses import dataclass

from spikefit.errors import ConfigurationError, check_range
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind


@dataclass(frozen=True)
class DeploymentContext:
    """Fitting, emulation, costs, budgets, deployment and export take this, and nothing that repeats it.

    Attributes:
        target: the chip; None where none was named, for what needs none (the ``exact`` program).
        time_steps: steps of an inference.
        input_kind: what the network reads in a step.

    Raises:
        ConfigurationError: for less than one step.
    """

    target: HardwareTarget | None
    time_steps: int
    input_kind: InputKind

    def __post_init__(self) -> None:
        check_range("time_steps", self.time_steps, 1)

    @property
    def chip(self) -> HardwareTarget:
        """The chip.

        Raises:
            ConfigurationError: where none was named.
        """
        if self.target is None:
            raise ConfigurationError("hardware: no chip is named; expected one, for example --hardware loihi.")
        return self.target
