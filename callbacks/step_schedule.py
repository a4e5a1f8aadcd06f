"""Callback that increases the number of time steps during training."""

from collections.abc import Mapping

import lightning.pytorch as pl

from callbacks.base import Milestone, too_late
from spikefit.errors import ConfigurationError, check_range
from spikefit.input_kind import InputKind
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight, training_end


class StepSchedule(pl.Callback):
    """Trains the first epochs with fewer time steps than the data have, and the last ones with all of them.

    A training step with T time steps takes about T times as long as one with a single time step, and weights trained
    with few time steps are a good start for more. Evaluation, pruning scores and norm calibration always use all time
    steps. The inputs must be the same in every step (``encoding: direct``), because the first steps of other inputs are
    not a complete sample.

    Args:
        time_steps: number of time steps by the first epoch in which it is used, such as ``{0: 1, 20: 2, 30: 4}``. It
            must contain epoch 0, and the last number must be that of the data.

    Raises:
        ConfigurationError: for numbers that are not allowed; before training, for inputs that change in time, a last
            number that differs from that of the data, or an epoch after the end of training.

    Example:
        >>> from callbacks import StepSchedule
        >>> schedule = StepSchedule({0: 1, 20: 2, 30: 4})
        >>> schedule.steps(0), schedule.steps(25), schedule.steps(30)
        (1, 2, 4)
    """

    def __init__(self, time_steps: Mapping[int, int]) -> None:
        if 0 not in time_steps:
            raise ConfigurationError(f"time_steps: got {dict(time_steps)!r}, expected an entry for epoch 0.")
        for epoch, steps in time_steps.items():
            check_range("epoch of time_steps", epoch, 0)
            check_range(f"time_steps[{epoch}]", steps, 1)
        self.time_steps = dict(sorted(time_steps.items()))

    def preflight(self, check: Preflight) -> None:
        """Raise if the data or the length of the training do not allow the schedule."""
        if not check.fitting:
            return
        context = check.module.context
        if context.input_kind is not InputKind.CONSTANT:
            raise ConfigurationError(
                f"StepSchedule: got inputs of the kind {context.input_kind.value!r}, expected "
                f"{InputKind.CONSTANT.value!r}: the first steps of other inputs are not a complete sample."
            )
        last, steps = list(self.time_steps.items())[-1]
        if steps != context.time_steps:
            raise ConfigurationError(
                f"StepSchedule.time_steps: got {steps} in the last epochs, expected {context.time_steps}, the number "
                "of time steps of the data."
            )
        for epoch, fewer in self.time_steps.items():
            check_range(f"StepSchedule.time_steps[{epoch}]", fewer, 1, context.time_steps)
        end = training_end(check.trainer, "epoch")
        if end is not None and last >= end:
            raise too_late("StepSchedule", Milestone("time_steps", last, last), "epoch", end)

    def steps(self, epoch: int) -> int:
        """Number of time steps for the training of epoch ``epoch``."""
        return next(steps for start, steps in reversed(self.time_steps.items()) if start <= epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the number of time steps of the module for this epoch."""
        assert isinstance(pl_module, SpikingClassifier)
        pl_module.training_time_steps = self.steps(trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it also for a run that is resumed in the middle of an epoch."""
        self.on_train_epoch_start(trainer, pl_module)
