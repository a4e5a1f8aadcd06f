"""Callback that trains with a chip's integer arithmetic."""

import lightning.pytorch as pl
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.base import Place, ScheduledCallback
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import require_structure
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.program.emulation import Emulator, require_emulated_neurons


class ChipEmulation(ScheduledCallback):
    """From a given epoch on, computes the network with the chip's integer arithmetic.

    Thresholds, biases, leaks, weights and neuron states are the integers of the chip, with straight-through gradients
    (:mod:`spikefit.program.emulation`). This holds in training and in evaluation, so that the validated accuracy is the
    deployed one. Norm statistics are frozen during emulation. Checkpoints store the chip. Use it for the last epochs,
    when the weights have settled on their codebook values.

    Args:
        schedule: ``start`` is the epoch (or step) at which emulation begins; the other options are not used.
        name: distinguishes two callbacks of the same schedule in a checkpoint.

    Raises:
        ConfigurationError: for options that are not allowed; before training, for neurons without a gradient in
            integers.
        TargetError: before training, if the network uses a feature that the chip does not have.

    Example:
        >>> from callbacks import ChipEmulation, Schedule
        >>> emulation = ChipEmulation(Schedule(start=8))
        >>> [epoch for epoch in range(12) if emulation.due(epoch)], emulation.settled(9)
        ([8], True)
    """

    compresses = False
    place = Place.EMULATION

    def __init__(self, schedule: Schedule = Schedule(), name: str = "") -> None:
        super().__init__(schedule, name)
        if schedule.stop not in (None, schedule.start):
            raise ConfigurationError(
                f"ChipEmulation.schedule.stop: got {schedule.stop}, expected null: emulation begins at "
                f"start={schedule.start} and does not end."
            )

    def due(self, position: int) -> bool:
        """Whether emulation begins at epoch (or step) ``position``."""
        return position == self.schedule.start

    def settled(self, position: int) -> bool:
        """Whether emulation has begun at ``position``."""
        return position >= self.schedule.start

    def preflight(self, check: Preflight) -> None:
        """Raise if the chip can't run this kind of network at any size, before any data is loaded."""
        super().preflight(check)
        if check.fitting:  # a test takes the chip from the checkpoint
            require_structure(check.module.network, check.module.context, training=True)
            require_emulated_neurons(check.module.network)

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Begin the emulation. Nothing is measured or drawn at random, so all processes agree."""
        module.network.emulation = Emulator(module.context)
        chip = module.context.chip.name
        rank_zero_info(f"From {self.schedule.interval} {position} on the network computes with the integers of {chip}.")
