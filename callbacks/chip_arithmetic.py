"""Train with the numbers that a chip will have."""

import lightning.pytorch as pl
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.base import Interval, ScheduledCallback
from spikefit.deploy.emulate import ChipEmulation
from spikefit.deploy.run import require_structure
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier


class ChipArithmetic(ScheduledCallback):
    """What you train is what you deploy: from ``start`` on the network computes as the program it is lowered to.

    Thresholds, biases, leaks, weights and the state are the integers of the chip, with straight-through gradients
    (:mod:`spikefit.deploy.emulate`), in training and in evaluation, so that the validated accuracy is that of the chip.
    Norms keep their statistics from then on. Checkpoints remember the chip. A step takes several times as long as one
    in floating point: this is for the last epochs.

    Args:
        target: name of a chip in ``configs/hardware`` or path of a YAML file that describes one.
        start: epoch (or step) to begin at.
        interval: ``epoch`` or ``step``.
        name: tells two callbacks of the same schedule apart.

    Raises:
        ConfigurationError: for options that are not allowed.
        TargetError: for an unknown or malformed target; before training when the network uses something that the chip
            does not have.
    """

    def __init__(self, target: str = "loihi", start: int = 0, interval: Interval = "epoch", name: str = "") -> None:
        super().__init__(start, start, 1, interval, name)
        self.target = HardwareTarget.load(target)

    def preflight(self, module: SpikingClassifier, data: object) -> None:
        """Refuse a network that the chip can't run in any size, before any data is loaded."""
        graded = bool(getattr(data, "static", False))
        require_structure(module.network, self.target, int(getattr(data, "time_steps", 1)), graded)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The same check for programs that do not use the command line."""
        if stage == "fit":
            assert isinstance(pl_module, SpikingClassifier)
            self.preflight(pl_module, getattr(trainer, "datamodule", None))

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Begin; the same in every process, as nothing is measured or drawn."""
        graded = bool(getattr(getattr(trainer, "datamodule", None), "static", False))
        module.network.emulation = ChipEmulation(self.target, graded)
        rank_zero_info(
            f"From {self.interval} {position} on the network computes with the integers of {self.target.name}."
        )
