"""Train with the numbers that a chip will have."""

import lightning.pytorch as pl
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.base import Place, ScheduledCallback
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import require_structure
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.program.emulation import Emulator


class ChipEmulation(ScheduledCallback):
    """What you train is what you deploy: from some epoch on the network computes as the program it is lowered to.

    Thresholds, biases, leaks, weights and the state are the integers of the chip, with straight-through gradients
    (:mod:`spikefit.program.emulation`), in training and in evaluation, so that the validated accuracy is that of the
    chip. Norms keep their statistics from then on. Checkpoints remember the chip. This is for the last epochs, when the
    weights have found their codebooks.

    Args:
        schedule: its ``start`` is the epoch (or step) to begin at; there is no other event.
        name: tells two callbacks of the same schedule apart.

    Raises:
        ConfigurationError: for options that are not allowed.
        TargetError: before training when the network uses something that the chip does not have.
    """

    compresses = False
    place = Place.EMULATION

    def __init__(self, schedule: Schedule = Schedule(), name: str = "") -> None:
        super().__init__(schedule, name)
        if schedule.stop not in (None, schedule.start):
            raise ConfigurationError(
                f"ChipEmulation.schedule.stop: got {schedule.stop}, expected null: it begins once, at "
                f"start={schedule.start}, and never ends."
            )

    def due(self, position: int) -> bool:
        """Whether to begin at epoch (or step) ``position``."""
        return position == self.schedule.start

    def settled(self, position: int) -> bool:
        """Whether it has begun."""
        return position >= self.schedule.start

    def preflight(self, check: Preflight) -> None:
        """Refuse a network that the chip can't run in any size, before any data is loaded."""
        super().preflight(check)
        if check.fitting:  # a test takes the chip from the checkpoint
            require_structure(check.module.network, check.module.context)

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Begin; the same in every process, as nothing is measured or drawn."""
        module.network.emulation = Emulator(module.context)
        chip = module.context.chip.name
        rank_zero_info(f"From {self.schedule.interval} {position} on the network computes with the integers of {chip}.")
